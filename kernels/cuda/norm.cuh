// Rows brought to mean square 1 (rms_norm), or to mean 0 and variance 1 (layer_norm).
//
// A block of THREADS takes a row of K numbers, `float in(row, k)`, and keeps it in registers. The
// number times 1 / sqrt(mean of squares + epsilon), after the mean is taken off if CENTRED, goes
// through `float tail(weights, x)` to y[row * K + k] as Out. The `weights` of k are what `tail.at(k)`
// gives: no earlier kernel of the same graph may write them, as they are loaded before these have
// ended.
#pragma once
#include "base.cuh"

template <int K, bool CENTRED, int THREADS, class In, class Out, class Tail>
__device__ __forceinline__ void norm(const In& in, float epsilon, const Tail& tail, Out* y,
                                     int row) {
  constexpr int EACH = (K + THREADS - 1) / THREADS;
  __shared__ float shared[THREADS / 32];
  decltype(tail.at(0)) weights[EACH];
#pragma unroll
  for (int i = 0; i < EACH; ++i) weights[i] = tail.at(min(i * THREADS + (int)threadIdx.x, K - 1));
  let_later_start();
  wait_for_earlier();
  float x[EACH], sum = 0, square = 0;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    int k = i * THREADS + threadIdx.x;
    x[i] = k < K ? in(row, k) : 0;
    sum += x[i];
  }
  float mean = CENTRED ? block_sum<THREADS>(sum, shared) / K : 0;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    if (i * THREADS + (int)threadIdx.x < K) x[i] -= mean, square += x[i] * x[i];
  }
  float factor = rsqrtf(block_sum<THREADS>(square, shared) / K + epsilon);
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    int k = i * THREADS + threadIdx.x;
    if (k < K) y[(u64)row * K + k] = from_float<Out>(tail(weights[i], x[i] * factor));
  }
}
