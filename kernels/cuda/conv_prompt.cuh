// Causal convolution of many positions, each channel by its own weights: y[s, c] = tail(s, c,
// bias[c] + sum over w of weight[c, w] x[s + w + 1 - W, c]); before the first position stands the
// window.
//
// x [S, C] is f32, bf16 or f16 in rows of X_ROW, y f32, bf16 or f16 in rows of C; weights [C, W]
// and bias [C] are bf16, f16 or f32; the window [W, C] in f32 has the last W positions, its first
// row not read. C is a multiple of 4, W at most CONV_ROWS + 1. A thread has four channels of
// CONV_ROWS positions, and slides along them; threads of the first positions, which read the window,
// also write the one after the last.
#pragma once
#include "fragments.cuh"

constexpr int CONV_ROWS = 32, CONV_THREADS = 128;
constexpr int CONV_AHEAD = 8;  // positions that are read at once

__device__ __forceinline__ float4 conv_add(float4 sum, float4 x, const float (&w)[4]) {
  return {sum.x + x.x * w[0], sum.y + x.y * w[1], sum.z + x.z * w[2], sum.w + x.w * w[3]};
}

// The window after `rows` positions, of four channels.
template <int C, int W, int X_ROW, class X>
__device__ __forceinline__ void conv_advance(float* window, const X* x, int rows) {
#pragma unroll
  for (int w = 0; w < W; ++w) {
    const int at = rows - W + w;
    store_4(window + w * C,
            at < 0 ? load_4(window + (W + at) * C) : load_4(x + (size_t)at * X_ROW));
  }
}

// One launch: CONV_THREADS threads, along x a block for each 4 * CONV_THREADS channels, along y one
// for each CONV_ROWS positions. `float tail(row, channel, value)`.
template <int C, int W, int X_ROW, class X, class Weight, class Y, class Tail>
__device__ __forceinline__ void conv_prompt(const X* x, const Weight* weight, const Weight* bias,
                                            float* window, Y* y, int rows, Tail tail) {
  static_assert(W <= CONV_ROWS + 1, "blocks of later positions would read the window");
  const int c = (blockIdx.x * CONV_THREADS + threadIdx.x) * 4;
  const int first = blockIdx.y * CONV_ROWS, last = min(first + CONV_ROWS, rows);
  if (c >= C) return;
  float w[W][4];
#pragma unroll
  for (int i = 0; i < 4 * W; ++i) w[i % W][i / W] = to_float(weight[(size_t)c * W + i]);
  const float4 start = load_4(bias + c);
  wait_for_earlier();
  const auto at = [&](int s) {
    return s < 0 ? load_4(window + (W + s) * C + c) : load_4(x + (size_t)s * X_ROW + c);
  };
  float4 seen[W];  // the last is the newest
#pragma unroll
  for (int i = 1; i < W; ++i) seen[i] = at(first + i - W);
  for (int s = first; s < last; s += CONV_AHEAD) {
    float4 next[CONV_AHEAD];
#pragma unroll
    for (int i = 0; i < CONV_AHEAD; ++i)
      next[i] = load_4(x + (size_t)min(s + i, last - 1) * X_ROW + c);
#pragma unroll
    for (int i = 0; i < CONV_AHEAD; ++i) {
      if (s + i >= last) break;
      float4 sum = start;
#pragma unroll
      for (int j = 0; j < W; ++j) {
        seen[j] = j + 1 < W ? seen[j + 1] : next[i];
        sum = conv_add(sum, seen[j], w[j]);
      }
      store_4(y + (size_t)(s + i) * C + c,
                 {tail(s + i, c, sum.x), tail(s + i, c + 1, sum.y), tail(s + i, c + 2, sum.z),
                  tail(s + i, c + 3, sum.w)});
    }
  }
  if (first == 0) conv_advance<C, W, X_ROW>(window + c, x + c, rows);
}
