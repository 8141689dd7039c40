// Conversions between stored numbers and those that kernels compute with, and sums over a warp.
#pragma once
#include "ptx.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

// The bits of two numbers as bf16, the first in the lower half.
__device__ __forceinline__ u32 bf16_pair(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *(u32*)&pair;
}

// The halves of a word as numbers.
__device__ __forceinline__ float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000); }

// The products of the halves of two words, rounded to bf16.
__device__ __forceinline__ u32 bf16_multiply(u32 a, __nv_bfloat162 b) {
  __nv_bfloat162 product = __hmul2(*(__nv_bfloat162*)&a, b);
  return *(u32*)&product;
}
__device__ __forceinline__ u32 bf16_multiply(u32 a, u32 b) {
  return bf16_multiply(a, *(__nv_bfloat162*)&b);
}

// Four numbers in a row, aligned to their size.
__device__ __forceinline__ float4 load_4(const float* p) { return *(const float4*)p; }
__device__ __forceinline__ float4 load_4(const bf16* p) {
  uint2 v = *(const uint2*)p;
  return {bf16_low(v.x), bf16_high(v.x), bf16_low(v.y), bf16_high(v.y)};
}
__device__ __forceinline__ float4 load_4(const f16* p) {
  uint2 v = *(const uint2*)p;
  float2 a = __half22float2(*(__half2*)&v.x), b = __half22float2(*(__half2*)&v.y);
  return {a.x, a.y, b.x, b.y};
}

__device__ __forceinline__ void store_4(float* p, float4 v) { *(float4*)p = v; }
__device__ __forceinline__ void store_4(bf16* p, float4 v) {
  *(uint2*)p = make_uint2(bf16_pair(v.x, v.y), bf16_pair(v.z, v.w));
}
__device__ __forceinline__ void store_4(f16* p, float4 v) {
  __half2 a = __floats2half2_rn(v.x, v.y), b = __floats2half2_rn(v.z, v.w);
  *(uint2*)p = make_uint2(*(u32*)&a, *(u32*)&b);
}

// The sum over the lanes of a warp, the same in each.
__device__ __forceinline__ float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
  return x;
}

// The largest over the lanes of a warp, the same in each.
__device__ __forceinline__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
  return x;
}
