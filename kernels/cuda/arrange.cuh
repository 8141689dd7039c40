// Rows of x for matrix units that take weights as they are packed: in the order of columns in which
// lanes have those (weights.cuh), as bf16 or, with a scale for each row, as E4M3.
//
// Of 32 columns lane t has 8 t to 8 t + 7. Matrix units take them as fragments, of which a lane has
// numbers further apart:
//   bf16   column 8 t + 2 j + e is at place 8 j + 2 t + e
//   E4M3   columns 8 t + 4 j + (2, 0, 3, 1) are at places 16 j + 4 t + (0, 1, 2, 3)
// Rows end with zeros, at a multiple of 32.
//
// A block of THREADS takes a row of K numbers, a multiple of 4 that `float4 in.four(row, k)` reads,
// and keeps it in registers. If NORMED, it is brought to mean square 1 first. What is rounded is
// `float tail(tail.at(k), x)`.
#pragma once
#include "norm.cuh"

template <int K, int THREADS>
struct ArrangedRow {
  static constexpr int WIDTH = (K + 31) / 32 * 32, EACH = (WIDTH / 4 + THREADS - 1) / THREADS;
  float x[EACH][4];

  // The first of four columns.
  static __device__ __forceinline__ int place(int i) { return (i * THREADS + (int)threadIdx.x) * 4; }

  // Where column k goes, the first of four, if a word is of EACH_WORD numbers.
  template <int EACH_WORD>
  static __device__ __forceinline__ int arranged(int k) {
    return k / 32 * 32 + k % 8 / 4 * 16 + k % 32 / 8 * EACH_WORD;
  }

  // Reads a row when earlier kernels have ended.
  template <bool NORMED, class In, class Tail>
  __device__ __forceinline__ void read(const In& in, float epsilon, const Tail& tail, int row,
                                       float (&shared)[THREADS / 32]) {
    static_assert(K % 4 == 0, "numbers are taken four at a time");
    let_later_start();
    wait_for_earlier();
    float square = 0, factor = 1;
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
    }
  }
};

// y[row, ..] is a row of bf16.
template <int K, bool NORMED, int THREADS, class In, class Tail>
__device__ __forceinline__ void arrange(const In& in, float epsilon, const Tail& tail, bf16* y,
                                        int row) {
  using Row = ArrangedRow<K, THREADS>;
  __shared__ float shared[THREADS / 32];
  Row r;
  r.template read<NORMED>(in, epsilon, tail, row, shared);
#pragma unroll
  for (int i = 0; i < Row::EACH; ++i) {
    const int k = r.place(i);
    if (k >= Row::WIDTH) continue;
    bf16* to = y + (u64)row * Row::WIDTH + r.template arranged<2>(k);
    *(u32*)to = bf16_pair(r.x[i][0], r.x[i][1]);
    *(u32*)(to + 8) = bf16_pair(r.x[i][2], r.x[i][3]);
  }
}

// Four numbers as E4M3, the first in the lowest byte.
__device__ __forceinline__ u32 e4m3_four(float a, float b, float c, float d) {
  const u32 low = __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, __NV_E4M3);
  const u32 high = __nv_cvt_float2_to_fp8x2({c, d}, __NV_SATFINITE, __NV_E4M3);
  return low | high << 16;
}

// y[row, ..] is x / scales[row] in E4M3, by which the largest number becomes 448.
template <int K, bool NORMED, int THREADS, class In, class Tail>
__device__ __forceinline__ void quantise(const In& in, float epsilon, const Tail& tail, u8* y,
                                         float* scales, int row) {
  using Row = ArrangedRow<K, THREADS>;
  __shared__ float shared[THREADS / 32];
  Row r;
  r.template read<NORMED>(in, epsilon, tail, row, shared);
  float most = 0;
#pragma unroll
  for (int i = 0; i < Row::EACH * 4; ++i) most = fmaxf(most, fabsf(r.x[i / 4][i % 4]));
  most = block_max<THREADS>(most, shared);
  // The largest f32 for what is smaller yet: infinity times zero is no number.
  const float up = most > 0 ? fminf(448 / most, 0x1.fffffep127f) : 0;
  if (threadIdx.x == 0) scales[row] = most > 0 ? 1 / up : 0;
#pragma unroll
  for (int i = 0; i < Row::EACH; ++i) {
    const int k = r.place(i);
    if (k >= Row::WIDTH) continue;
    const float(&v)[4] = r.x[i];
    *(u32*)(y + (u64)row * Row::WIDTH + r.template arranged<4>(k)) =
        e4m3_four(v[2] * up, v[0] * up, v[3] * up, v[1] * up);
  }
}
