// Products of some rows on Hopper with packed weights: what gemm_split.cuh computes, with weights
// as packed_stages.cuh takes them. One warp copies stages; eight have 16 rows of weights each, four
// of them those of each half of a tile.
#pragma once
#include "gemm_split.cuh"
#include "packed_stages.cuh"

constexpr int SPLIT_PACKED_STAGES = 4, SPLIT_PACKED_THREADS = 32 * (PACKED_WARPS + 1);

// Bytes of dynamic shared memory of a launch.
template <class Tiles, class W>
constexpr int split_packed_shared = SPLIT_PACKED_STAGES * PackedStage<Tiles, W, SPLIT_ROWS>::BYTES;

template <class Tiles, int PARTS>
struct GemmSplitPacked : SplitTile<PARTS, SPLIT_PACKED_STAGES> {
  using Base = SplitTile<PARTS, SPLIT_PACKED_STAGES>;
  static_assert(SPLIT_WIDTH == PACKED_WIDTH, "a block has a tile's columns");
  template <class W>
  using Stage = PackedStage<Tiles, W, SPLIT_ROWS>;
  using Sums = float[SPLIT_ROWS / 2];

  // The stages of this block's part of the columns: the first, and how many.
  template <class W>
  static constexpr int MOST = (Stage<W>::COUNT + PARTS - 1) / PARTS;
  template <class W>
  static __device__ __forceinline__ int first() {
    return Base::rank() * MOST<W>;
  }
  template <class W>
  static __device__ __forceinline__ int count() {
    return max(0, min(MOST<W>, Stage<W>::COUNT - first<W>()));
  }

  template <class W>
  __device__ __forceinline__ u8* stage(int n) const {
    return this->shared + n % SPLIT_PACKED_STAGES * Stage<W>::BYTES;
  }

  // What a warp does that copies. Weights depend on no earlier kernel: those of the first stages are
  // under way before x is. The next kernel starts when the last ones are.
  template <class R>
  __device__ __forceinline__ void copy(const R& r, int top, int left) {
    using W = decltype(r.first);
    using S = Stage<W>;
    const int lane = threadIdx.x % 32, all = count<W>();
    const auto weights = [&](int n) {
      S::copy_weights(r, left, first<W>() + n, stage<W>(n), &this->full[n % SPLIT_PACKED_STAGES],
                      S::WEIGHTS);
    };
    for (int n = 0; n < min(SPLIT_PACKED_STAGES, all); ++n) weights(n);
    wait_for_earlier();
    for (int n = 0; n < all; ++n) {
      if (n >= SPLIT_PACKED_STAGES) {
        barrier_wait(&this->empty[n % SPLIT_PACKED_STAGES], n / SPLIT_PACKED_STAGES % 2 ^ 1);
        weights(n);
      }
      if (n + 1 == all) let_later_start();
      if (lane < S::BOXES)
        load_box(stage<W>(n) + lane * S::BOX, this->x, &this->full[n % SPLIT_PACKED_STAGES],
                 ((first<W>() + n) * S::BOXES + lane) * S::DEPTH, top);
    }
  }

  template <class W>
  __device__ __forceinline__ void sum(Sums& d, int warp) {
    using S = Stage<W>;
    const auto wait = [&](int n) {
      barrier_wait(&this->full[n % SPLIT_PACKED_STAGES], n / SPLIT_PACKED_STAGES % 2);
      return stage<W>(n);
    };
    const auto take = [&](typename S::Records& to, const u8* memory, int n) {
      S::load(to, memory, warp, S::records(first<W>() + n));
    };
    const auto release = [&](int n) {
      if (threadIdx.x % 32 < ARRIVING_LANES)
        barrier_arrive(&this->empty[n % SPLIT_PACKED_STAGES]);
    };
    S::sum(d, count<W>(), wait, take, release);
  }

  // Leaves sums where gemm_split.cuh's would be, though rows and columns have changed places.
  __device__ __forceinline__ void leave(const Sums& d, int warp) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float* sums = (float*)this->shared + (warp * 8 + g % 2) * 128 + t * 8 + g / 2;
#pragma unroll
    for (int i = 0; i < SPLIT_ROWS / 2; ++i) {
      const int j = i / 4, h = i / 2 % 2, e = i % 2;
      sums[(h * 4 + j % 2 * 2) * 128 + j / 2 * 32 + e * 4] = d[i];
    }
  }

  template <class R>
  __device__ __forceinline__ void operator()(const R& r, int tile) {
    using W = decltype(r.first);
    const int top = blockIdx.y * SPLIT_ROWS, left = tile * (SPLIT_WIDTH / R::PRODUCTS);
    const int warp = threadIdx.x / 32;
    if (warp == PACKED_WARPS) {
      copy(r, top, left);
    } else {
      Sums d = {};
      wait_for_earlier();
      sum<W>(d, warp);
      named_sync(1, 32 * PACKED_WARPS);
      leave(d, warp);
    }
    this->finish_tile(r, top, left);
  }
};

// One launch: as gemm_split, but for SPLIT_PACKED_THREADS threads, and of dynamic shared memory the
// most split_packed_shared bytes that any of the results takes.
template <class Tiles, int PARTS, class... Results>
__device__ __forceinline__ void gemm_split_packed(u8* shared, const TensorMap& x, int rows,
                                                  const Results&... results) {
  __shared__ Barrier barriers[2 * SPLIT_PACKED_STAGES];
  GemmSplitPacked<Tiles, PARTS> g{{shared, barriers, barriers + SPLIT_PACKED_STAGES, x, rows}};
  g.start(PACKED_WARPS * ARRIVING_LANES);
  visit_result<SPLIT_WIDTH>(blockIdx.x / PARTS, g, results...);
}
