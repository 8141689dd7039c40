// From the tail that generated code is, `float tail(row, column, product..)`, to those that products
// call. The columns of a part begin at `first`.
#pragma once
#include "numbers.cuh"

// Of one product.
template <class Tail>
struct One {
  Tail tail;
  int first, columns;
  __device__ __forceinline__ float operator()(int row, int n, float p, float) const {
    return tail(row, first + n, p);
  }
  __device__ __forceinline__ float2 operator()(int row, int n, float2 p, float2) const {
    const bool both = n + 1 < columns;
    return {tail(row, first + n, p.x), both ? tail(row, first + n + 1, p.y) : 0};
  }
};

// Of two.
template <class Tail>
struct Two {
  Tail tail;
  int first, columns;
  __device__ __forceinline__ float operator()(int row, int n, float p, float q) const {
    return tail(row, first + n, p, q);
  }
  __device__ __forceinline__ float2 operator()(int row, int n, float2 p, float2 q) const {
    const bool both = n + 1 < columns;
    return {tail(row, first + n, p.x, q.x), both ? tail(row, first + n + 1, p.y, q.y) : 0};
  }
};

// Of products of what stands for numbers, times a scale of its row and one of its column.
template <class Tail>
struct Scaled {
  Tail tail;
  const float *rows, *first, *second;
  __device__ __forceinline__ float2 operator()(int row, int n, float2 p, float2 q) const {
    const float x = rows[row];
    const float2 a = *(const float2*)(first + n), b = *(const float2*)(second + n);
    return tail(row, n, float2{p.x * x * a.x, p.y * x * a.y}, float2{q.x * x * b.x, q.y * x * b.y});
  }
};

template <class Tail>
__device__ __forceinline__ Scaled<Tail> scaled(Tail tail, const float* rows, const float* first,
                                               const float* second) {
  return {tail, rows, first, second};
}

// No tail.
struct Same {
  __device__ __forceinline__ float operator()(int, int, float p) const { return p; }
};

// The numbers of rows of K.
template <class T, int K>
struct RowsOf {
  const T* x;
  __device__ __forceinline__ float operator()(int row, int k) const {
    return to_float(x[(u64)row * K + k]);
  }
  __device__ __forceinline__ float4 four(int row, int k) const {
    return load_4(x + (u64)row * K + k);
  }
};

// The same of rows of so many.
struct RowsOfSize {
  const float* x;
  long size;
  __device__ __forceinline__ float operator()(int row, int k) const { return x[row * size + k]; }
};

// As it is.
struct Unweighted {
  __device__ __forceinline__ int at(int) const { return 0; }
  __device__ __forceinline__ float operator()(int, float x) const { return x; }
};

// Times a weight.
struct Weighted {
  const float* weight;
  __device__ __forceinline__ float at(int k) const { return weight[k]; }
  __device__ __forceinline__ float operator()(float weight, float x) const { return x * weight; }
};

// Times a weight, plus a bias.
struct WeightedBiased {
  const float *weight, *bias;
  __device__ __forceinline__ float2 at(int k) const { return {weight[k], bias[k]}; }
  __device__ __forceinline__ float operator()(float2 both, float x) const {
    return x * both.x + both.y;
  }
};

// Of a channel of the only row.
template <class Tail>
struct OfChannel {
  Tail tail;
  __device__ __forceinline__ float operator()(int channel, float x) const {
    return tail(0, channel, x);
  }
};
