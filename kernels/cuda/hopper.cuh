// Instructions that only Hopper (sm_90a) has, one a function: barriers in shared memory, bulk
// tensor copies (TMA), products of a warpgroup (wgmma), clusters, and the split of registers among
// warpgroups. Of the rest, ptx.cuh and ldmatrix.cuh alone hold PTX, so that the same kernels run on a
// CPU under other definitions of these names.
//
// Tiles in shared memory have rows of 128 bytes and the 128-byte swizzle: in each 1024 bytes, row r
// has its sixteen-byte words w at w ^ r. A tile starts at a multiple of 1024 bytes.
#pragma once
#include "ptx.cuh"

// What cuTensorMapEncodeTiled makes; a kernel takes it by value as `const __grid_constant__`.
struct alignas(64) TensorMap {
  u64 opaque[16];
};

using Barrier = u64;

__device__ __forceinline__ void barrier_init(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals)
               : "memory");
}

// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives, and has the phase wait for so many bytes of copies.
__device__ __forceinline__ void barrier_expect(Barrier* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void barrier_arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

// Arrives at the barrier which stands at the same place in block `rank` of the cluster. It says
// that something has been read, so that it orders no writes of this thread.
__device__ __forceinline__ void barrier_arrive_at(Barrier* b, u32 rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(shared_address(b)),
      "r"(rank)
      : "memory");
}

__device__ __forceinline__ bool barrier_try(Barrier* b, int phase) {
  u32 done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, "
      "p;\n}\n"
      : "=r"(done)
      : "r"(shared_address(b)), "r"(phase)
      : "memory");
  return done != 0;
}

__device__ __forceinline__ void barrier_wait(Barrier* b, int phase) {
  while (!barrier_try(b, phase)) {
  }
}

// Copies bytes, a multiple of 16 from a multiple of 16, to shared memory, and tells `b` of them.
__device__ __forceinline__ void load_bytes(void* to, const void* from, int bytes, Barrier* b) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(b))
      : "memory");
}

// Copies the box of `map` at column x, row y to shared memory, and tells `b` of its bytes.
__device__ __forceinline__ void load_box(void* to, const TensorMap& map, Barrier* b, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(shared_address(to)),
      "l"((u64)&map), "r"(shared_address(b)), "r"(x), "r"(y)
      : "memory");
}

// The same to the blocks of a cluster whose bits are set in `blocks`, at the same place of each.
__device__ __forceinline__ void load_box_to(void* to, const TensorMap& map, Barrier* b, int x,
                                            int y, u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::"
      "cluster"
      " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
      "l"((u64)&map), "r"(shared_address(b)), "r"(x), "r"(y), "h"(blocks)
      : "memory");
}

// Orders this thread's writes to shared memory before what the copy engine and wgmma do next.
__device__ __forceinline__ void fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ u32 cluster_rank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// What stands at the same place in block `rank` of the cluster.
__device__ __forceinline__ float load_at(const float* p, u32 rank) {
  float x;
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %1, %2;\n"
      "ld.shared::cluster.f32 %0, [remote];\n}\n"
      : "=f"(x)
      : "r"(shared_address(p)), "r"(rank)
      : "memory");
  return x;
}

// A barrier of `threads` threads of the block; `id` is 1 to 15.
__device__ __forceinline__ void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int REGISTERS>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most LEFT groups of products are under way.
template <int LEFT>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

// A swizzled tile whose rows run along what the product sums over.
__device__ __forceinline__ u64 tile(const void* p) {
  return (u64)((shared_address(p) & 0x3FFFF) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

// A swizzled tile whose columns are the result's: 64 columns a row, `block` bytes from one 64
// columns to the next.
__device__ __forceinline__ u64 tile_across(const void* p, u32 block) {
  return (u64)((shared_address(p) & 0x3FFFF) >> 4) | ((u64)(block >> 4) << 16) | (64ull << 32) |
         (1ull << 62);
}

#define REGISTERS_32                                                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, "                                                                                 \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_64                                                                             \
  REGISTERS_32                                                                                   \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, "                                                                                        \
  "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_128                                                                            \
  REGISTERS_64                                                                                   \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
  "%82, %83, "                                                                                   \
  "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, " \
  "%102, "                                                                                       \
  "%103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, "   \
  "%118, %119, "                                                                                 \
  "%120, %121, %122, %123, %124, %125, %126, %127"

#define IN_OUT_8(d, i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define IN_OUT_32(d, i) IN_OUT_8(d, i), IN_OUT_8(d, i + 8), IN_OUT_8(d, i + 16), IN_OUT_8(d, i + 24)
#define IN_OUT_64(d, i) IN_OUT_32(d, i), IN_OUT_32(d, i + 32)
#define IN_OUT_128(d, i) IN_OUT_64(d, i), IN_OUT_64(d, i + 64)

// d[64, N] = a b, or d + a b if `add`: a and b are tiles with rows along the sum, d is spread over
// a warpgroup: d[4 j + 2 h + e] of a thread is at row 16 warp + lane / 4 + 8 h, column 8 j + 2
// (lane % 4) + e. REGISTERS is N / 2; A, B and P are the numbers of the operands after them.
#define WGMMA_TILES(NAME, REGISTERS, SHAPE, TAIL, A, B, P)                              \
  __device__ __forceinline__ void NAME(float (&d)[REGISTERS], u64 a, u64 b, int add) {  \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P                                 \
                 ", 0;\nwgmma.mma_async.sync.aligned." SHAPE " {" REGISTERS_##REGISTERS \
                 "}, %" A ", %" B ", p, " TAIL ";\n}\n"                                 \
                 : IN_OUT_##REGISTERS(d, 0)                                             \
                 : "l"(a), "l"(b), "r"(add));                                           \
  }
WGMMA_TILES(wgmma_bf16, 32, "m64n64k16.f32.bf16.bf16", "1, 1, 0, 0", "32", "33", "34")
WGMMA_TILES(wgmma_bf16, 64, "m64n128k16.f32.bf16.bf16", "1, 1, 0, 0", "64", "65", "66")
WGMMA_TILES(wgmma_bf16, 128, "m64n256k16.f32.bf16.bf16", "1, 1, 0, 0", "128", "129", "130")

// The same with a in registers, as the fragments of four `mma.sync` of sixteen rows. TAIL says how b
// lies; A0 to A3, B and P are the numbers of the operands after d.
#define WGMMA_FRAGMENTS(NAME, REGISTERS, SHAPE, TAIL, A0, A1, A2, A3, B, P)                      \
  __device__ __forceinline__ void NAME(float (&d)[REGISTERS], const u32(&a)[4], u64 b, int add) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P                                         \
                 ", 0;\nwgmma.mma_async.sync.aligned." SHAPE " {" REGISTERS_##REGISTERS          \
                 "}, {%" A0 ", %" A1 ", %" A2 ", %" A3 "}, %" B ", p, " TAIL ";\n}\n"            \
                 : IN_OUT_##REGISTERS(d, 0)                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                \
  }
// b is a tile.
WGMMA_FRAGMENTS(wgmma_bf16, 32, "m64n64k16.f32.bf16.bf16", "1, 1, 0", "32", "33", "34", "35", "36", "37")
WGMMA_FRAGMENTS(wgmma_bf16, 64, "m64n128k16.f32.bf16.bf16", "1, 1, 0", "64", "65", "66", "67", "68", "69")
WGMMA_FRAGMENTS(wgmma_bf16, 128, "m64n256k16.f32.bf16.bf16", "1, 1, 0", "128", "129", "130", "131", "132", "133")
WGMMA_FRAGMENTS(wgmma_e4m3, 32, "m64n64k32.f32.e4m3.e4m3", "1, 1", "32", "33", "34", "35", "36", "37")
WGMMA_FRAGMENTS(wgmma_e4m3, 64, "m64n128k32.f32.e4m3.e4m3", "1, 1", "64", "65", "66", "67", "68", "69")
WGMMA_FRAGMENTS(wgmma_e4m3, 128, "m64n256k32.f32.e4m3.e4m3", "1, 1", "128", "129", "130", "131", "132", "133")
// b is a tile_across.
WGMMA_FRAGMENTS(wgmma_across_bf16, 32, "m64n64k16.f32.bf16.bf16", "1, 1, 1", "32", "33", "34", "35", "36", "37")
WGMMA_FRAGMENTS(wgmma_across_bf16, 64, "m64n128k16.f32.bf16.bf16", "1, 1, 1", "64", "65", "66", "67", "68", "69")
