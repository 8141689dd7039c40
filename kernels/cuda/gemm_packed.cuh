// Products of some rows on Hopper with packed weights: what gemm_split.cuh computes, with weights
// read as they are. Matrix units take them out of registers, where they are unpacked, as the rows
// of a product whose columns are the rows of x. In FP8 (E4m3Tiles, for which x has been rounded
// too), the bytes of `Fp8` are what they take; with Bf16Tiles it is 16 bits.
//
// Eight warps have 16 rows of weights each, four of them those of each half of a tile. A stage is
// what they multiply at a time: a record for each warp, or as many as are for a box of x, and the
// boxes of x, of which the columns are in the order of arrange.cuh. One more warp copies stages.
// Scales of rows wait for the tail.
#pragma once
#include "gemm_split.cuh"
#include "unpack.cuh"

constexpr int PACKED_WARPS = SPLIT_WIDTH / 16, PACKED_THREADS = 32 * (PACKED_WARPS + 1);
constexpr int PACKED_STAGES = 4;

// A stage with weights W, where DEPTH columns are a box of x: records of a warp, boxes, where the
// records begin, those of one warp after those of another, and bytes in all.
template <class W, int DEPTH>
struct PackedStage {
  static constexpr int RECORDS = W::STEP < DEPTH ? DEPTH / W::STEP : 1;
  static constexpr int BOXES = RECORDS * W::STEP / DEPTH;
  static constexpr int WEIGHTS = BOXES * SPLIT_BOX, EACH = RECORDS * W::RECORD;
  static constexpr int BYTES = (WEIGHTS + PACKED_WARPS * EACH + 1023) / 1024 * 1024;
  // Of all columns.
  static constexpr int COUNT = (W::STEPS + RECORDS - 1) / RECORDS;
};

// Bytes of dynamic shared memory of a launch.
template <class Tiles, class W>
constexpr int packed_shared = PACKED_STAGES * PackedStage<W, 128 / Tiles::BYTES>::BYTES;

// The tail of a product with weights that have scales of rows.
template <class W, class Tail>
struct OfPacked {
  W first, second;
  Tail tail;
  __device__ __forceinline__ float2 operator()(int row, int n, float2 p, float2 q) const {
    return tail(row, n, make_float2(p.x * first.scale(n), p.y * first.scale(n + 1)),
                make_float2(q.x * second.scale(n), q.y * second.scale(n + 1)));
  }
};

// Results as gemm_packed takes them with Bf16Tiles; with E4m3Tiles they are those of results.cuh,
// with tails that multiply by all scales. N is a multiple of 8.
template <int N, int STRIDE, int FIRST = 0, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w, Y y, Tail tail) {
  return result<N, STRIDE, FIRST>(w, y, OfPacked<W, Tail>{w, w, tail});
}
template <int N, int STRIDE, int FIRST = 0, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w0, W w1, Y y, Tail tail) {
  return result<N, STRIDE, FIRST>(w0, w1, y, OfPacked<W, Tail>{w0, w1, tail});
}

template <class Tiles, int PARTS>
struct GemmPacked : SplitTile<Tiles, PARTS, PACKED_STAGES> {
  using Base = SplitTile<Tiles, PARTS, PACKED_STAGES>;
  template <class W>
  using Stage = PackedStage<W, Base::DEPTH>;

  // What matrix units take of 16 rows of weights for a box of x.
  using Fragments = u32[4][4];
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

  // Records of each warp in a stage: the last one may have fewer.
  template <class W>
  static __device__ __forceinline__ int records(int stage) {
    constexpr int ALL = Stage<W>::RECORDS;
    return W::STEPS % ALL == 0 ? ALL : min(ALL, W::STEPS - stage * ALL);
  }

  template <class W>
  __device__ __forceinline__ u8* stage(int n) const {
    return this->shared + n % PACKED_STAGES * Stage<W>::BYTES;
  }

  // What a warp does that copies. Weights depend on no earlier kernel: those of the first stages are
  // under way before x is. The next kernel starts when the last ones are.
  template <class R>
  __device__ __forceinline__ void copy(const R& r, int top, int left) {
    using W = decltype(r.first);
    using S = Stage<W>;
    const int lane = threadIdx.x % 32, all = count<W>(), last = (r.n + 15) / 16 - 1;
    const int tile = left / 16 + (R::PRODUCTS == 1 ? lane : lane % (PACKED_WARPS / 2));
    const W of = lane < PACKED_WARPS / 2 ? r.first : r.second;
    const auto weights = [&](int n) {
      const int at = first<W>() + n, bytes = records<W>(at) * W::RECORD;
      Barrier* b = &this->full[n % PACKED_STAGES];
      if (lane == 0) barrier_expect(b, S::WEIGHTS + PACKED_WARPS * bytes);
      __syncwarp();
      if (lane < PACKED_WARPS)
        load_bytes(stage<W>(n) + S::WEIGHTS + lane * S::EACH,
                   of.record(min(tile, last), at * S::RECORDS), bytes, b);
    };
    for (int n = 0; n < min(PACKED_STAGES, all); ++n) weights(n);
    wait_for_earlier();
    for (int n = 0; n < all; ++n) {
      if (n >= PACKED_STAGES) {
        barrier_wait(&this->empty[n % PACKED_STAGES], n / PACKED_STAGES % 2 ^ 1);
        weights(n);
      }
      if (n + 1 == all) let_later_start();
      if (lane < S::BOXES)
        load_box(stage<W>(n) + lane * SPLIT_BOX, this->x, &this->full[n % PACKED_STAGES],
                 ((first<W>() + n) * S::BOXES + lane) * Base::DEPTH, top);
    }
  }

  // Those for a box of the records of a stage.
  template <class W>
  static __device__ __forceinline__ void unpack(Fragments& to,
                                                const typename W::Raw (&raw)[Stage<W>::RECORDS],
                                                int box) {
    static_assert(Tiles::BYTES == 2 || W::EXTRA == 0, "bytes stand for numbers by scales of rows");
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      if constexpr (Tiles::BYTES == 1) {
        const uint4 &v = raw[i / 2].v[0], &more = raw[i / 2].v[1];
        to[i][0] = v.x, to[i][1] = v.z, to[i][2] = v.y, to[i][3] = v.w;
        to[i + 1][0] = more.x, to[i + 1][1] = more.z, to[i + 1][2] = more.y, to[i + 1][3] = more.w;
      } else {
        const int run = box * 2 + i / 2;
        Fragment f = W::unpack(raw[0], run, 0);
        if constexpr (W::FOLDS) {
          const RowPair scale = W::scales(raw[0], run);
          RowPair more = {0, 0};
          if constexpr (W::HAS_MINIMA) more = W::minima(raw[0], run);
          scale_words(f.top, scale.top, more.top);
          scale_words(f.bottom, scale.bottom, more.bottom);
        }
        to[i][0] = f.top[0], to[i][1] = f.bottom[0], to[i][2] = f.top[1], to[i][3] = f.bottom[1];
        to[i + 1][0] = f.top[2], to[i + 1][1] = f.bottom[2];
        to[i + 1][2] = f.top[3], to[i + 1][3] = f.bottom[3];
      }
    }
  }

  // What a warp sums, of `all` stages. While matrix units are at one box, the fragments of the next
  // are made.
  template <class W>
  __device__ __forceinline__ void sum(Sums& d, int all) {
    using S = Stage<W>;
    constexpr int TURNS = 2 / S::BOXES;
    const int lane = threadIdx.x % 32, mine = S::WEIGHTS + threadIdx.x / 32 * S::EACH;
    typename W::Raw raw[TURNS][S::RECORDS];
    Fragments fragments[2];
    const auto take = [&](typename W::Raw(&to)[S::RECORDS], int n) {
      barrier_wait(&this->full[n % PACKED_STAGES], n / PACKED_STAGES % 2);
      const int size = records<W>(first<W>() + n);
#pragma unroll
      for (int i = 0; i < S::RECORDS; ++i) {
        to[i] = {};
        if (i < size) to[i] = W::load_shared(stage<W>(n) + mine + i * W::RECORD, lane);
      }
    };
    // Box `at` of the two that follow each other from stage `n` on.
    const auto add = [&](int at, int n) {
      const int turn = at / S::BOXES, box = at % S::BOXES;
      n += turn;
      if (box == 0) take(raw[turn], n);
      unpack<W>(fragments[at], raw[turn], box);
      const u64 x = tile(stage<W>(n) + box * SPLIT_BOX);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i) Tiles::multiply(d, fragments[at][i], x + i * 2, 1);
      wgmma_commit();
      wgmma_wait<1>();
      if (box == 0 && n > 0 && lane == 0) barrier_arrive(&this->empty[(n - 1) % PACKED_STAGES]);
    };
    int n = 0;
    for (; n + TURNS <= all; n += TURNS) add(0, n), add(1, n);
    wgmma_wait<0>();  // else products of what follows would wait for each other
    if (n < all) {
      add(0, n);
      wgmma_wait<0>();
    }
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
      sum<W>(d, count<W>());
      named_sync(1, 32 * PACKED_WARPS);
      leave(d, warp);
    }
    this->finish_tile(r, top, left);
  }
};

// One launch: as gemm_split, but for PACKED_THREADS threads, and of dynamic shared memory the most
// packed_shared bytes that any of the results takes.
template <class Tiles, int PARTS, class... Results>
__device__ __forceinline__ void gemm_packed(u8* shared, const TensorMap& x, int rows,
                                            const Results&... results) {
  __shared__ Barrier barriers[2 * PACKED_STAGES];
  GemmPacked<Tiles, PARTS> g{{shared, barriers, barriers + PACKED_STAGES, x, rows}};
  g.start(PACKED_WARPS);
  visit_result<SPLIT_WIDTH>(blockIdx.x / PARTS, g, results...);
}
