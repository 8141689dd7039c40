// Packed weights as rows of bf16, for products of many rows by kernels that read no others.
//
// A warp takes a tile and step of weights.cuh at a time; K is a multiple of 8.
#pragma once
#include "weights.cuh"

__device__ __forceinline__ void store_words(bf16* to, const u32 (&words)[4]) {
  *(uint4*)to = make_uint4(words[0], words[1], words[2], words[3]);
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
      Fragment f = W::unpack(raw, run, 0);
      RowPair scale = {1, 1}, more = {0, 0};
      if constexpr (W::FOLDS) scale = W::scales(raw, run);
      if constexpr (W::HAS_MINIMA) more = W::minima(raw, run);
      bf16* to = y + (u64)n * W::COLUMNS + k;
      if (k < W::COLUMNS && n < w.rows) {
        scale_words(f.top, scale.top * w.scale(n), more.top);
        store_words(to, f.top);
      }
      if (k < W::COLUMNS && n + 8 < w.rows) {
        scale_words(f.bottom, scale.bottom * w.scale(n + 8), more.bottom);
        store_words(to + 8 * W::COLUMNS, f.bottom);
      }
    }
    __syncwarp();
  }
}
