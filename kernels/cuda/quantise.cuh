// Rows as E4M3, each with a scale: y[row, k] = round(x / scale), so that the largest becomes 448.
//
// A block of THREADS takes a row of K numbers, a multiple of 4 that `float4 in.four(row, k)` reads,
// and keeps it in registers. If NORMED, it is brought to mean square 1 first. What is rounded is
// `float tail(tail.at(k), x)`.
#pragma once
#include "norm.cuh"

// Four numbers as E4M3, the first in the lowest byte.
__device__ __forceinline__ u32 e4m3_four(float a, float b, float c, float d) {
  const u32 low = __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, __NV_E4M3);
  const u32 high = __nv_cvt_float2_to_fp8x2({c, d}, __NV_SATFINITE, __NV_E4M3);
  return low | high << 16;
}

template <int K, bool NORMED, int THREADS, class In, class Tail>
__device__ __forceinline__ void quantise(const In& in, float epsilon, const Tail& tail, u8* y,
                                         float* scales, int row) {
  static_assert(K % 4 == 0, "numbers are taken four at a time");
  constexpr int EACH = (K / 4 + THREADS - 1) / THREADS;
  __shared__ float shared[THREADS / 32];
  let_later_start();
  wait_for_earlier();
  const auto place = [](int i) { return (i * THREADS + (int)threadIdx.x) * 4; };
  float x[EACH][4], square = 0, most = 0, factor = 1;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0;
    if (place(i) < K) norm_read(x[i], in, row, place(i));
#pragma unroll
    for (int e = 0; e < 4; ++e) square += x[i][e] * x[i][e];
  }
  if (NORMED) factor = rsqrtf(block_sum<THREADS>(square, shared) / K + epsilon);
#pragma unroll
  for (int i = 0; i < EACH * 4; ++i) {
    if (place(i / 4) >= K) continue;
    x[i / 4][i % 4] = tail(tail.at(place(i / 4) + i % 4), x[i / 4][i % 4] * factor);
    most = fmaxf(most, fabsf(x[i / 4][i % 4]));
  }
  most = block_max<THREADS>(most, shared);
  const float up = most > 0 ? 448 / most : 0;
  if (threadIdx.x == 0) scales[row] = most / 448;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    if (place(i) >= K) continue;
    *(u32*)(y + (u64)row * K + place(i)) =
        e4m3_four(x[i][0] * up, x[i][1] * up, x[i][2] * up, x[i][3] * up);
  }
}
