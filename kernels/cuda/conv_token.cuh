// One position of a causal convolution, each channel by itself, for each of `rows` sequences:
// y[row, c] = tail(c, sum over i of window[i, c] w[c, i] + bias[c]).
//
// The window [W, C] in f32 holds the last W positions, the newest last; that of the next sequence
// begins `pitch` bytes on. It moves on by one, x [rows, C] coming last. A thread takes a channel of
// a sequence. Windows and weights are loaded before earlier kernels have ended: none of the same
// graph may write them.
#pragma once
#include "numbers.cuh"

template <int C, int W, class X, class T, class Out, class Tail>
__device__ __forceinline__ void conv_token(const X* x, const T* w, const T* bias, float* windows,
                                           long pitch, int rows, const Tail& tail, Out* y,
                                           int block) {
  int at = block * blockDim.x + threadIdx.x, row = at / C, c = at % C;
  bool inside = row < rows;
  float* window = (float*)((char*)windows + row * pitch);
  float seen[W], weight[W], sum = to_float(bias[c]);
#pragma unroll
  for (int i = 0; i + 1 < W; ++i) seen[i] = inside ? window[(i + 1) * C + c] : 0;
#pragma unroll
  for (int i = 0; i < W; ++i) weight[i] = to_float(w[c * W + i]);
  let_later_start();
  wait_for_earlier();
  if (!inside) return;
  seen[W - 1] = to_float(x[at]);
#pragma unroll
  for (int i = 0; i < W; ++i) {
    window[i * C + c] = seen[i];
    sum += seen[i] * weight[i];
  }
  y[at] = from_float<Out>(tail(c, sum));
}
