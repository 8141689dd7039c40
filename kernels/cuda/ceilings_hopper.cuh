// What Hopper's matrix units can do, as gemm.cuh uses them.
#pragma once
#include "hopper.cuh"

constexpr int CEILING_SHARED = (2 * 64 + 256) * 128;

// Two warpgroups multiply 64 rows each with 256 columns, 64 deep, ROUNDS times: random numbers,
// since zeros would take less power. `sink` is there so that they do.
template <int ROUNDS>
__device__ void multiply_tiles(u8* shared, float* sink) {
  for (int i = threadIdx.x; i < CEILING_SHARED / 4; i += 256) {
    const u32 random = (i + 1) * 0x9e3779b1u;
    ((u32*)shared)[i] = ((random ^ random >> 15) & 0x80ff80ffu) | 0x3f003f00u;
  }
  fence_async();
  __syncthreads();
  const u8 *a = shared + threadIdx.x / 128 * 64 * 128, *b = shared + 2 * 64 * 128;
  float d[128] = {};
#pragma unroll 1
  for (int round = 0; round < ROUNDS; ++round) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) wgmma_bf16(d, tile(a + i * 32), tile(b + i * 32), 1);
    wgmma_commit();
    wgmma_wait<0>();
  }
  if (d[0] == 0.12345f) *sink = d[0];
}
