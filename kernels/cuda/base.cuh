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

// The sum over a block, the same in each thread. `shared` has a float for each warp.
template <int THREADS>
__device__ __forceinline__ float block_sum(float x, float* shared) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < THREADS / 32; ++i) sum += shared[i];
  return sum;
}
