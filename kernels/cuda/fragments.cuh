// Fragments for `mma.sync` of either type of 16 bits; a first argument, not read, says which.
#pragma once
#include "ldmatrix.cuh"
#include "numbers.cuh"

__device__ __forceinline__ void mma(const bf16*, float (&d)[4], const u32 (&a)[4],
                                    const u32 (&b)[2]) {
  mma_bf16(d, a, b);
}
__device__ __forceinline__ void mma(const f16*, float (&d)[4], const u32 (&a)[4],
                                    const u32 (&b)[2]) {
  mma_f16(d, a, b);
}

// The bits of two numbers, the first in the lower half.
__device__ __forceinline__ u32 pair_of(const bf16*, float low, float high) {
  return bf16_pair(low, high);
}
__device__ __forceinline__ u32 pair_of(const f16*, float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *(const u32*)&pair;
}

// Eight numbers in a row as numbers of T.
template <class T>
__device__ __forceinline__ uint4 eight_of(const T*, const T* p) {
  return *(const uint4*)p;
}
template <class T, class From>
__device__ __forceinline__ uint4 eight_of(const T* type, const From* p) {
  const float4 a = load_4(p), b = load_4(p + 4);
  return make_uint4(pair_of(type, a.x, a.y), pair_of(type, a.z, a.w), pair_of(type, b.x, b.y),
                    pair_of(type, b.z, b.w));
}
