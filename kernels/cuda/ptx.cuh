// Instructions that every architecture from sm_80 on has, one a function, and the types of bits.
//
// Other PTX is in ldmatrix.cuh and, for Hopper alone, in hopper.cuh: the kernels hold none, so that
// the same text runs on a CPU under other definitions of these names.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using bf16 = __nv_bfloat16;
using f16 = __half;

constexpr u32 ALL_LANES = 0xffffffff;

// Dynamic shared memory, as `T name[]`.
#define SHARED(T, name) extern __shared__ __align__(1024) T name[]

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

// The same number, which the compiler keeps in a register rather than computing it again.
__device__ __forceinline__ int kept(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// Waits until the kernels that this one depends on have ended and what they wrote can be read. With
// programmatic dependent launch, only what no earlier kernel writes may be read before; every block
// of every kernel calls it, so that a kernel which has ended implies all the earlier ones have.
__device__ __forceinline__ void wait_for_earlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start on what room there is, once every block has called it.
__device__ __forceinline__ void let_later_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Copies 16 bytes to shared memory in the background, past the L1 cache; L2 fetches the 256 bytes
// around them, which are asked for next.
__device__ __forceinline__ void copy_16_once(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(shared_address(to)),
               "l"(from)
               : "memory");
}

// Copies BYTES (4, 8 or 16) to shared memory in the background.
template <int BYTES>
__device__ __forceinline__ void copy(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from),
               "n"(BYTES)
               : "memory");
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void copies_end() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for this thread's groups of copies but the last PENDING.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 2^x, off by a part in 2^22; results below the normal ones are 0.
__device__ __forceinline__ float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Adds 1 to a counter, and returns what it was: after all that this thread has met before, and
// before all that comes. Takes half the time of an atomic between two `__threadfence`s, which are
// sequentially consistent.
__device__ __forceinline__ u32 count_in(u32* counter) {
  u32 was;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
               : "=r"(was)
               : "l"(counter)
               : "memory");
  return was;
}

// Fetches the line of an address to L2.
__device__ __forceinline__ void prefetch(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

// A product of matrix units, d += a b, with f32 sums: a is 16 x 16, b is 16 x 8. Lane 4 g + t
// holds, two numbers a word, of a: rows g, g + 8, g, g + 8 of columns 2t and 2t + 1 (the first two
// words) and of columns 2t + 8 and 2t + 9; of b: column g of rows 2t and 2t + 1, and of rows 2t + 8
// and 2t + 9; of d: (row g, columns 2t and 2t + 1), (row g + 8, the same).
__device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of f16.
__device__ __forceinline__ void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A warp's 8 x 8 numbers of 16 bits, of which lane 4 g + t has columns 2 t and 2 t + 1 of row g,
// with rows for columns.
__device__ __forceinline__ u32 transposed(u32 x) {
  u32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}
