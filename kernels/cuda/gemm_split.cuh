// Products of some rows on Hopper, 17 to about 128: what gemm.cuh computes, for so few rows that
// reading the weights is what takes time.
//
// A cluster of PARTS blocks has a tile of 64 rows and 128 columns (or 64 of each of two products),
// and each block sums over its part of K: that many times more blocks read weights. In a block, one
// thread copies tiles to a ring of buffers (TMA, 128-byte swizzle), one warpgroup multiplies. Then
// each block adds up a part of the tile's columns, out of the shared memory of all, in order of K.
// The fewest PARTS are best with which there are as many blocks as multiprocessors.
//
// Weights are read before earlier kernels have ended: who has them made by one waits first. Those
// that are packed are gemm_split_packed.cuh's.
//
// Tensor maps, all of bf16, 128-byte swizzle, zeros out of bounds and boxes of 64 rows by 64 along
// K: of x, {K, rows}; of weights, {K, N}. PARTS is 1, 2 or 4, and at most 2 with
// two products.
#pragma once
#include "gemm.cuh"

constexpr int SPLIT_ROWS = 64, SPLIT_WIDTH = 128, SPLIT_STAGES = 4, SPLIT_THREADS = 160;
constexpr int SPLIT_BOX = 64 * 128, SPLIT_STAGE_BYTES = 3 * SPLIT_BOX;

// Bytes of dynamic shared memory of a launch.
constexpr int SPLIT_SHARED = SPLIT_STAGES * SPLIT_STAGE_BYTES;

// Sums of a tile over a block's part of K, and over those of all blocks of its cluster.
template <int PARTS, int STAGES>
struct SplitTile {
  static constexpr int SUMS = SPLIT_WIDTH / 2;
  u8* shared;
  Barrier *full, *empty;
  const TensorMap& x;
  int rows;

  static __device__ __forceinline__ int rank() { return Cluster<PARTS>::rank(); }

  // A stage is empty when so many have read it. Blocks have rings of their own.
  __device__ __forceinline__ void start(int readers) {
    start_ring<1, STAGES>(full, 1, empty, readers);
  }

  // Adds up this block's part of the columns; sums lie in shared memory by register and thread.
  template <class R>
  __device__ __forceinline__ void finish_part(const R& r, const float* sums, int top, int left) {
    constexpr int HELD = SUMS / R::PRODUCTS, MINE = HELD / PARTS;
    static_assert(MINE % 16 == 0, "32 columns are stored at a time");
    float d[MINE * R::PRODUCTS];
#pragma unroll
    for (int i = 0; i < MINE * R::PRODUCTS; ++i) {
      const float* at = sums + (i / MINE * HELD + rank() * MINE + i % MINE) * 128 + threadIdx.x;
      d[i] = *at;
      if constexpr (PARTS > 1) {
        d[i] = load_at(at, 0);
#pragma unroll
        for (int part = 1; part < PARTS; ++part) d[i] += load_at(at, part);
      }
    }
    finish(r, d, top, left + rank() * MINE * 2, rows);
  }

  // What follows when this block's sums are in shared memory.
  template <class R>
  __device__ __forceinline__ void finish_tile(const R& r, int top, int left) {
    __syncwarp();
    Cluster<PARTS>::meet();
    if (threadIdx.x < 128) {
      finish_part(r, (const float*)shared, top + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, left);
    }
    Cluster<PARTS>::meet();
  }
};

template <int PARTS, int K>
struct GemmSplit : SplitTile<PARTS, SPLIT_STAGES> {
  using Base = SplitTile<PARTS, SPLIT_STAGES>;
  static constexpr int DEPTH = 64, STEPS = (K + DEPTH - 1) / DEPTH;
  static constexpr int EACH = (STEPS + PARTS - 1) / PARTS;

  static __device__ __forceinline__ int first() { return Base::rank() * EACH; }
  static __device__ __forceinline__ int count() { return max(0, min(EACH, STEPS - first())); }

  // Fills the ring. Weights depend on no earlier kernel: those of the first stages are under way
  // before x is. The next kernel starts when the last ones are.
  template <class R>
  __device__ __forceinline__ void copy(const R& r, int top, int left) {
    const int right = R::PRODUCTS == 1 ? left + SPLIT_WIDTH / 2 : left;
    const auto weights = [&](int n) {
      u8* to = this->shared + n % SPLIT_STAGES * SPLIT_STAGE_BYTES;
      Barrier* b = &this->full[n % SPLIT_STAGES];
      barrier_expect(b, SPLIT_STAGE_BYTES);
      load_box(to + SPLIT_BOX, *r.first, b, (first() + n) * DEPTH, left);
      load_box(to + 2 * SPLIT_BOX, *r.second, b, (first() + n) * DEPTH, right);
    };
    for (int n = 0; n < min(SPLIT_STAGES, count()); ++n) weights(n);
    wait_for_earlier();
    for (int n = 0; n < count(); ++n) {
      const int stage = n % SPLIT_STAGES;
      if (n >= SPLIT_STAGES) {
        barrier_wait(&this->empty[stage], n / SPLIT_STAGES % 2 ^ 1);
        weights(n);
      }
      if (n + SPLIT_STAGES >= count()) let_later_start();
      load_box(this->shared + stage * SPLIT_STAGE_BYTES, this->x, &this->full[stage],
               (first() + n) * DEPTH, top);
    }
  }

  // Multiplies `count` stages, and leaves the sums.
  __device__ __forceinline__ void sum(int count) {
    float d[Base::SUMS], *sums = (float*)this->shared;
#pragma unroll
    for (int i = 0; i < Base::SUMS; ++i) d[i] = 0;
    for (int n = 0; n < count; ++n) {
      const int stage = n % SPLIT_STAGES;
      const u8* a = this->shared + stage * SPLIT_STAGE_BYTES;
      barrier_wait(&this->full[stage], n / SPLIT_STAGES % 2);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i)
        wgmma_bf16(d, ::tile(a + i * 32), ::tile(a + SPLIT_BOX + i * 32), 1);
      wgmma_commit();
      wgmma_wait<0>();
      if (threadIdx.x == 0) barrier_arrive(&this->empty[stage]);
    }
    named_sync(1, 128);
#pragma unroll
    for (int i = 0; i < Base::SUMS; ++i) sums[i * 128 + threadIdx.x] = d[i];
  }

  template <class R>
  __device__ __forceinline__ void operator()(const R& r, int tile) {
    const int top = blockIdx.y * SPLIT_ROWS, left = tile * (SPLIT_WIDTH / R::PRODUCTS);
    if (threadIdx.x == 128) copy(r, top, left);
    if (threadIdx.x < 128) {
      wait_for_earlier();
      sum(count());
    }
    this->finish_tile(r, top, left);
  }
};

// One launch: SPLIT_THREADS threads, clusters of PARTS blocks; along x PARTS blocks for each tile
// of results, along y one for each SPLIT_ROWS rows; SPLIT_SHARED bytes of `shared`.
template <int PARTS, int K, class... Results>
__device__ __forceinline__ void gemm_split(u8* shared, const TensorMap& x, int rows,
                                           const Results&... results) {
  __shared__ Barrier barriers[2 * SPLIT_STAGES];
  GemmSplit<PARTS, K> g{{shared, barriers, barriers + SPLIT_STAGES, x, rows}};
  g.start(1);
  visit_result<SPLIT_WIDTH>(blockIdx.x / PARTS, g, results...);
}
