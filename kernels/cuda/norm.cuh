// Rows brought to mean square 1 (rms_norm), or to mean 0 and variance 1 (layer_norm).
//
// A block of THREADS takes a row of K numbers, `float in(row, k)`, and keeps it in registers. The
// number times 1 / sqrt(mean of squares + epsilon), after the mean is taken off if CENTRED, goes
// through `float tail(weights, x)` to y[row * K + k] as Out. The `weights` of k are what `tail.at(k)`
// gives: no earlier kernel of the same graph may write them, as they are loaded before these have
// ended.
// Where K is a multiple of 4, it is read as `float4 in.four(row, k)`, and written as four numbers.
#pragma once
#include "base.cuh"

template <class In>
__device__ __forceinline__ void norm_read(float (&x)[1], const In& in, int row, int k) {
  x[0] = in(row, k);
}
template <class In>
__device__ __forceinline__ void norm_read(float (&x)[4], const In& in, int row, int k) {
  const float4 v = in.four(row, k);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

template <class Out>
__device__ __forceinline__ void norm_write(Out* y, const float (&x)[1]) {
  *y = from_float<Out>(x[0]);
}
template <class Out>
__device__ __forceinline__ void norm_write(Out* y, const float (&x)[4]) {
  store_4(y, {x[0], x[1], x[2], x[3]});
}

template <int K, bool CENTRED, int THREADS, class In, class Out, class Tail>
__device__ __forceinline__ void norm(const In& in, float epsilon, const Tail& tail, Out* y,
                                     int row) {
  constexpr int W = K % 4 == 0 ? 4 : 1, EACH = (K / W + THREADS - 1) / THREADS;
  __shared__ float shared[THREADS / 32];
  const auto place = [](int i) { return (i * THREADS + (int)threadIdx.x) * W; };
  decltype(tail.at(0)) weights[EACH][W];
#pragma unroll
  for (int i = 0; i < EACH * W; ++i)
    weights[i / W][i % W] = tail.at(min(place(i / W) + i % W, K - 1));
  let_later_start();
  wait_for_earlier();
  float x[EACH][W], sum = 0, square = 0;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    if (place(i) < K) norm_read(x[i], in, row, place(i));
#pragma unroll
    for (int e = 0; e < W; ++e) x[i][e] = place(i) < K ? x[i][e] : 0, sum += x[i][e];
  }
  float mean = CENTRED ? block_sum<THREADS>(sum, shared) / K : 0;
#pragma unroll
  for (int i = 0; i < EACH * W; ++i) {
    if (place(i / W) < K) x[i / W][i % W] -= mean, square += x[i / W][i % W] * x[i / W][i % W];
  }
  float factor = rsqrtf(block_sum<THREADS>(square, shared) / K + epsilon);
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    int k = place(i);
    if (k >= K) continue;
#pragma unroll
    for (int e = 0; e < W; ++e) x[i][e] = tail(weights[i][e], x[i][e] * factor);
    norm_write(y + (u64)row * K + k, x[i]);
  }
}
