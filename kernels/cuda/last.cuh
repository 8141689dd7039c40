// The block that ends last, which puts together what the others left.
#pragma once
#include "ptx.cuh"

// Whether this is the last of `blocks` blocks to call it for a counter; what they wrote before can
// then be read (by `__ldcg`, past the L1 cache). The counter is zero before, and again after. All
// threads of a block call it.
__device__ __forceinline__ bool is_last_block(u32* counter, int blocks) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    last = count_in(counter) + 1 == (u32)blocks;
    if (last) *counter = 0;
  }
  __syncthreads();
  return last;
}
