// What every kernel uses: element types, sums over a warp, and the order among kernels.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(int x) { return (float)x; }
__device__ inline float wide(__half x) { return __half2float(x); }
__device__ inline float wide(bf16 x) { return __bfloat162float(x); }

// Rounds to nearest, ties to even.
__device__ inline void put(float* to, float x) { *to = x; }
__device__ inline void put(__half* to, float x) { *to = __float2half_rn(x); }
__device__ inline void put(bf16* to, float x) { *to = __float2bfloat16_rn(x); }

// Waits until the kernels before this one in the stream are done and their results are to be seen.
// Nothing that they write or read may be touched before.
__device__ inline void wait_for_earlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start its blocks, which may wait.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline float warp_sum(float x) {
  for (int apart = 16; 0 < apart; apart /= 2) x += __shfl_xor_sync(~0u, x, apart);
  return x;
}

__device__ inline float warp_max(float x) {
  for (int apart = 16; 0 < apart; apart /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, apart));
  return x;
}

// The first place of the largest number.
__device__ inline void warp_argmax(float& best, int& place) {
  for (int apart = 16; 0 < apart; apart /= 2) {
    float other = __shfl_xor_sync(~0u, best, apart);
    int there = __shfl_xor_sync(~0u, place, apart);
    if (best < other || (best == other && there < place)) {
      best = other;
      place = there;
    }
  }
}

// Sums over a block of `THREADS`, in a fixed order; every thread gets the sum.
template <int THREADS>
__device__ inline float block_sum(float x) {
  __shared__ float sums[THREADS / 32];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < THREADS / 32; i++) total += sums[i];
  return total;
}

template <int THREADS>
__device__ inline float block_max(float x) {
  __shared__ float most[THREADS / 32];
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) most[threadIdx.x / 32] = x;
  __syncthreads();
  float total = most[0];
  for (int i = 1; i < THREADS / 32; i++) total = fmaxf(total, most[i]);
  return total;
}
