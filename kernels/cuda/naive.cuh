// The plain form of each kernel: what the fast ones are checked against, and the first on new
// hardware.
#pragma once
#include "base.cuh"
#include "norm.cuh"
#include "placed.cuh"

// Weights as rows of plain numbers.
template <class T>
struct Plain {
  const T* data;
  int width;
  __device__ float operator()(int row, int column) const {
    return wide(data[(long)row * width + column]);
  }
};

// Row `row` of x times column `column` of the product, by all lanes of a warp.
template <class X, class W>
__device__ float product(const X* x, W w, int row, int column, int depth) {
  float sum = 0;
  for (int k = threadIdx.x % 32; k < depth; k += 32)
    sum += wide(x[(long)row * depth + k]) * w(column, k);
  return warp_sum(sum);
}

// out[row, n] = tail(row, n, product, ..), `columns` from row to row: a warp for each element.
template <int THREADS, class Y, class X, class W, class Tail>
__device__ void matmul(Y out, int columns, const X* x, int rows, int depth, W w, int n, Tail tail) {
  long warps = (long)gridDim.x * (THREADS / 32);
  long begin = (long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  for (long i = begin; i < (long)rows * n; i += warps) {
    int row = i / n, column = i % n;
    float p = product(x, w, row, column, depth);
    if (threadIdx.x % 32 == 0) put(row_of(out, row, columns) + column, tail(row, column, p, p));
  }
}

// The same of two products.
template <int THREADS, class Y, class X, class W, class Tail>
__device__ void matmul_two(Y out, int columns, const X* x, int rows, int depth, W w0, W w1, int n,
                           Tail tail) {
  long warps = (long)gridDim.x * (THREADS / 32);
  long begin = (long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  for (long i = begin; i < (long)rows * n; i += warps) {
    int row = i / n, column = i % n;
    float p0 = product(x, w0, row, column, depth);
    float p1 = product(x, w1, row, column, depth);
    if (threadIdx.x % 32 == 0) put(row_of(out, row, columns) + column, tail(row, column, p0, p1));
  }
}

// The tail, whose columns begin at `first`, of products that are there in rows of `n`.
template <int THREADS, class Y, class Tail, class... Products>
__device__ void combine(Y out, int columns, int rows, int n, Tail tail, int first,
                        const Products*... p) {
  const long all = (long)gridDim.x * THREADS, begin = (long)blockIdx.x * THREADS + threadIdx.x;
  for (long i = begin; i < (long)rows * n; i += all) {
    const int row = i / n, column = i % n;
    put(row_of(out, row, columns) + column, tail(row, first + column, p[i]...));
  }
}

// A block for each query: keys one after the other, with the softmax over those so far.
template <int THREADS, int P, int PV, class Y, class Q, class C>
__device__ void attention(Y* out, const Q* q, const C* k, const C* v, int rows, int all, int heads,
                          int group, float scale, bool causal, int window) {
  constexpr int EACH = (PV + THREADS - 1) / THREADS;
  __shared__ float shared[THREADS / 32];
  for (long i = blockIdx.x; i < (long)rows * heads * group; i += gridDim.x) {
    int head = i / group % heads, row = i / group / heads;
    int at = all - rows + row;
    const Q* query = q + i * P;
    float most = -1e30f, total = 0, sums[EACH] = {};
    int last = causal ? at : all - 1;
    if (window && !causal) last = min(last, at + window - 1);
    int first = window ? max(0, at - window + 1) : 0;
    for (int t = first; t <= last; t++) {
      const C* key = k + ((long)t * heads + head) * P;
      float score = 0;
      for (int p = threadIdx.x; p < P; p += THREADS) score += wide(query[p]) * wide(key[p]);
      score = block_sum<THREADS>(score, shared) * scale;
      float now = fmaxf(most, score), keep = expf(most - now), e = expf(score - now);
      most = now;
      total = total * keep + e;
      const C* value = v + ((long)t * heads + head) * PV;
      for (int j = 0; j < EACH; j++) {
        int p = j * THREADS + threadIdx.x;
        if (p < PV) sums[j] = sums[j] * keep + e * wide(value[p]);
      }
    }
    for (int j = 0; j < EACH; j++) {
      int p = j * THREADS + threadIdx.x;
      if (p < PV) put(out + i * PV + p, sums[j] / total);
    }
  }
}

// Causal convolution of each channel: a thread for each. The window `[WIDTH, channels]` holds the
// last inputs and is left with those of now.
template <int THREADS, int WIDTH, class Y, class X, class Tail>
__device__ void conv1d(Y* y, const X* x, const float* weight, const float* bias, float* window,
                       int rows, int channels, Tail tail) {
  for (int c = blockIdx.x * THREADS + threadIdx.x; c < channels; c += gridDim.x * THREADS) {
    float last[WIDTH];
    for (int i = 0; i < WIDTH; i++) last[i] = window[i * channels + c];
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i + 1 < WIDTH; i++) last[i] = last[i + 1];
      last[WIDTH - 1] = wide(x[(long)row * channels + c]);
      float sum = 0;
      for (int i = 0; i < WIDTH; i++) sum += last[i] * weight[c * WIDTH + i];
      put(y + (long)row * channels + c, tail(row, c, sum + bias[c]));
    }
    for (int i = 0; i < WIDTH; i++) window[i * channels + c] = last[i];
  }
}

// The recurrence of state-space duality: a warp for each channel of a head, whose lanes share the
// state of it.
template <int THREADS, int N, class Y, class X>
__device__ void ssd(Y* y, const X* x, const float* dt, const float* a, const X* b, const X* c,
                    float* state, int rows, int groups, int each, int width) {
  constexpr int EACH = (N + 31) / 32;
  int lane = threadIdx.x % 32;
  long channels = (long)groups * each * width;
  long warps = (long)gridDim.x * (THREADS / 32);
  for (long i = (long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; i < channels; i += warps) {
    int head = i / width, of = head / each;
    float h[EACH];
    for (int j = 0; j < EACH; j++) h[j] = j * 32 + lane < N ? state[i * N + j * 32 + lane] : 0;
    for (int row = 0; row < rows; row++) {
      float step = dt[(long)row * groups * each + head];
      float keep = expf(step * a[head]);
      float in = wide(x[row * channels + i]) * step;
      float sum = 0;
      for (int j = 0; j < EACH; j++) {
        int n = j * 32 + lane;
        if (n < N) {
          h[j] = h[j] * keep + in * wide(b[((long)row * groups + of) * N + n]);
          sum += h[j] * wide(c[((long)row * groups + of) * N + n]);
        }
      }
      sum = warp_sum(sum);
      if (lane == 0) put(y + row * channels + i, sum);
    }
    for (int j = 0; j < EACH; j++)
      if (j * 32 + lane < N) state[i * N + j * 32 + lane] = h[j];
  }
}
