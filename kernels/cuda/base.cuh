// What plain kernels and generated loops use besides: rounding stores, and sums over a block.
#pragma once
#include "numbers.cuh"

__device__ __forceinline__ float wide(int x) { return (float)x; }
template <class T>
__device__ __forceinline__ float wide(T x) {
  return to_float(x);
}

// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ void put(T* to, float x) {
  *to = from_float<T>(x);
}

// The first place of the largest number.
__device__ __forceinline__ void warp_argmax(float& best, int& place) {
  for (int apart = 16; 0 < apart; apart /= 2) {
    float other = __shfl_xor_sync(ALL_LANES, best, apart);
    int there = __shfl_xor_sync(ALL_LANES, place, apart);
    if (best < other || (best == other && there < place)) {
      best = other;
      place = there;
    }
  }
}

// What `join` makes of what the warps of a block have, the same in each thread. `shared` has a
// float for each warp.
template <int THREADS, class Join>
__device__ __forceinline__ float join_warps(float x, float* shared, const Join& join) {
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  float all = shared[0];
  for (int i = 1; i < THREADS / 32; ++i) all = join(all, shared[i]);
  return all;
}

// The sum and the largest over a block.
template <int THREADS>
__device__ __forceinline__ float block_sum(float x, float* shared) {
  return join_warps<THREADS>(warp_sum(x), shared, [](float a, float b) { return a + b; });
}
template <int THREADS>
__device__ __forceinline__ float block_max(float x, float* shared) {
  return join_warps<THREADS>(warp_max(x), shared, [](float a, float b) { return fmaxf(a, b); });
}
