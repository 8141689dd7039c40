// Packed weights as rows of bf16, for products of many rows: these have time for it.
//
// A warp takes a tile and step of weights.cuh at a time; K is a multiple of 8.
#pragma once
#include "weights.cuh"

// The eight numbers of a row, times `scale`, plus `more`.
__device__ __forceinline__ uint4 unpack_row(const u32 (&words)[4], float scale, float more) {
  u32 v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    v[i] = bf16_pair(bf16_low(words[i]) * scale + more, bf16_high(words[i]) * scale + more);
  return make_uint4(v[0], v[1], v[2], v[3]);
}

template <int WARPS, class W>
__device__ __forceinline__ void unpack(bf16* y, const W& w) {
  constexpr int RUNS = W::STEP / 32;
  __shared__ __align__(16) u8 slots[WARPS][W::CHUNKS * 512 + W::EXTRA * 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = blockIdx.x * WARPS + warp; i < (w.rows + 15) / 16 * W::STEPS; i += gridDim.x * WARPS) {
    const int tile = i / W::STEPS, step = i % W::STEPS;
    w.fetch(slots[warp], tile, step, lane);
    copies_end();
    copies_wait<0>();
    __syncwarp();
    const typename W::Raw raw = W::load(slots[warp], lane);
#pragma unroll
    for (int run = 0; run < RUNS; ++run) {
      const int n = tile * 16 + lane / 4, k = step * W::STEP + run * 32 + lane % 4 * 8;
      const Fragment f = W::unpack(raw, run, 0);
      RowPair scale = {1, 1}, more = {0, 0};
      if constexpr (W::FOLDS) scale = W::scales(raw, run);
      if constexpr (W::HAS_MINIMA) more = W::minima(raw, run);
      bf16* to = y + (u64)n * W::COLUMNS + k;
      if (k < W::COLUMNS && n < w.rows)
        *(uint4*)to = unpack_row(f.top, scale.top * w.scale(n), more.top);
      if (k < W::COLUMNS && n + 8 < w.rows)
        *(uint4*)(to + 8 * W::COLUMNS) =
            unpack_row(f.bottom, scale.bottom * w.scale(n + 8), more.bottom);
    }
    __syncwarp();
  }
}

// The bytes e2 e0 e3 e1 in order.
__device__ __forceinline__ u32 untile_word(u32 v) { return __byte_perm(v, 0, 0x2031); }

// Tiles of FP8 weights as rows of their bytes; K is a multiple of 8.
template <int N, int K>
__device__ __forceinline__ void untile(u8* y, const u8* tiles) {
  constexpr int STEPS = (K + 63) / 64, RECORDS = (N + 15) / 16 * STEPS;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < RECORDS * 64;
       i += gridDim.x * blockDim.x) {
    const uint4 v = *(const uint4*)(tiles + (u64)i * 16);
    const int n = i / 64 / STEPS * 16 + i % 32 / 4;
    const int k = i / 64 % STEPS * 64 + i / 32 % 2 * 32 + i % 4 * 8;
    if (k >= K) continue;
    u8* to = y + (u64)n * K + k;
    if (n < N) *(uint2*)to = make_uint2(untile_word(v.x), untile_word(v.y));
    if (n + 8 < N) *(uint2*)(to + 8 * (u64)K) = make_uint2(untile_word(v.z), untile_word(v.w));
  }
}
