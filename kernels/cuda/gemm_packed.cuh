// Products of some rows on Hopper with packed weights, which are read as they are: the tiles of
// gemm_split.cuh, whose weights four warps bring into rows. With Bf16Tiles they unpack them; with
// E4m3Tiles, for which x has been rounded to FP8 too, they put the bytes of `Fp8` in order.
//
// Each of these warps takes 16 rows of each half of a tile, a record of each at a time or as many
// as fill a stage, out of a ring of its own with DEEP records of each. The copy engine fills it:
// before what a thread has stored can be seen by matrix units, it would wait for all copies of its
// own. What comes of it goes where the copy engine would have put it. Scales of rows wait for the
// tail. One more thread copies x.
#pragma once
#include "gemm_split.cuh"
#include "unpack.cuh"

constexpr int PACKED_STAGES = 3, PACKED_THREADS = 288;

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
template <int N, int STRIDE, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w, Y y, Tail tail) {
  return result<N, STRIDE>(w, y, OfPacked<W, Tail>{w, w, tail});
}
template <int N, int STRIDE, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w0, W w1, Y y, Tail tail) {
  return result<N, STRIDE>(w0, w1, y, OfPacked<W, Tail>{w0, w1, tail});
}

template <class Tiles, int PARTS, int K, int DEEP>
struct GemmPacked : SplitTile<Tiles, PARTS, PACKED_STAGES> {
  using Base = SplitTile<Tiles, PARTS, PACKED_STAGES>;
  Barrier* records;  // those of a ring for each warp

  // Records along K that are read at a time, stages that they fill, reads of a tile and of a block.
  template <class W>
  static constexpr int RECORDS = W::STEP < Base::DEPTH ? Base::DEPTH / W::STEP : 1;
  template <class W>
  static constexpr int STAGES_OF = RECORDS<W> * W::STEP / Base::DEPTH;
  template <class W>
  static constexpr int READS = (W::STEPS + RECORDS<W> - 1) / RECORDS<W>;
  template <class W>
  static constexpr int EACH = (READS<W> + PARTS - 1) / PARTS;
  template <class W>
  static __device__ __forceinline__ int first() {
    return Base::rank() * EACH<W>;
  }
  template <class W>
  static __device__ __forceinline__ int count() {
    return max(0, min(EACH<W>, READS<W> - first<W>()));
  }

  // Copies x for `count` stages, from column `k` on.
  __device__ __forceinline__ void copy(int count, int k, int top) {
    wait_for_earlier();
    for (int n = 0; n < count; ++n) {
      const int stage = n % PACKED_STAGES;
      if (n >= PACKED_STAGES) barrier_wait(&this->empty[stage], n / PACKED_STAGES % 2 ^ 1);
      barrier_expect(&this->full[stage], SPLIT_BOX);
      load_box(this->shared + stage * SPLIT_STAGE_BYTES, this->x, &this->full[stage],
               k + n * Base::DEPTH, top);
    }
  }

  // Eight columns of a row of each half of 64 columns, the rows of a lane being alike modulo 8.
  // Odd rows are stored in the other order, so that eight lanes write to 128 different bytes.
  static __device__ __forceinline__ void store(u8* row, uint4 left, uint4 right) {
    const int lane = threadIdx.x % 32, odd = lane / 4 % 2;
    const uint4 one = odd ? right : left, other = odd ? left : right;
    const int at = (odd * 4 + lane % 4) ^ lane / 4;
    *(uint4*)(row + at * 16) = one;
    *(uint4*)(row + (at ^ 4) * 16) = other;
  }

  // Stores 16 rows of 64 columns: those of the runs `run` and `run` + 1 of a record.
  template <class W>
  static __device__ __forceinline__ void store_half(u8* to, const typename W::Raw& raw, int run) {
    uint4 top[2], bottom[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Fragment f = W::unpack(raw, run + i, 0);
      if constexpr (W::FOLDS) {
        const RowPair scale = W::scales(raw, run + i);
        RowPair more = {0, 0};
        if constexpr (W::HAS_MINIMA) more = W::minima(raw, run + i);
        top[i] = unpack_row(f.top, scale.top, more.top);
        bottom[i] = unpack_row(f.bottom, scale.bottom, more.bottom);
      } else {
        top[i] = make_uint4(f.top[0], f.top[1], f.top[2], f.top[3]);
        bottom[i] = make_uint4(f.bottom[0], f.bottom[1], f.bottom[2], f.bottom[3]);
      }
    }
    u8* row = to + threadIdx.x % 32 / 4 * 128;
    store(row, top[0], top[1]);
    store(row + 8 * 128, bottom[0], bottom[1]);
  }

  // Stores 16 rows of 128 columns in E4M3, eight bytes at a time. Two lanes write to one bank, for
  // which there is time.
  template <class W>
  static __device__ __forceinline__ void store_bytes(u8* to, const typename W::Raw (&raw)[2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int run = 0; run < 4; ++run) {
      const uint4& v = raw[run / 2].v[run % 2];
      const int at = (run * 2 + lane % 4 / 2) ^ lane / 4;
      u8* row = to + lane / 4 * 128 + at * 16 + lane % 2 * 8;
      *(uint2*)row = {untile_word(v.x), untile_word(v.y)};
      *(uint2*)(row + 8 * 128) = {untile_word(v.z), untile_word(v.w)};
    }
  }

  // What warp `warp` of four does. The next kernel starts when the last records are under way.
  template <class R>
  __device__ __forceinline__ void unpack(const R& r, int warp, int left) {
    using W = decltype(r.first);
    using Raw = typename W::Raw;
    static_assert(Tiles::BYTES == 2 || W::EXTRA == 0, "bytes stand for numbers by scales of rows");
    constexpr int AT_ONCE = RECORDS<W>, HALF = AT_ONCE * W::RECORD, SLOT = 2 * HALF;
    constexpr int SLOTS = DEEP / AT_ONCE, APART = R::PRODUCTS == 1 ? 4 : 0;
    const int lane = threadIdx.x % 32, all = count<W>(), last = (r.n + 15) / 16 - 1;
    const int tile = left / 16 + warp;
    u8* ring = this->shared + PACKED_STAGES * SPLIT_STAGE_BYTES + warp * SLOTS * SLOT;
    Barrier* there = records + warp * DEEP;
    // The records of read n, of which the last may have fewer.
    const auto step = [](int n) { return (first<W>() + n) * AT_ONCE; };
    const auto size = [&](int n) {
      return W::STEPS % AT_ONCE == 0 ? AT_ONCE : min(AT_ONCE, W::STEPS - step(n));
    };
    const auto fetch = [&](int n) {
      if (lane != 0) return;
      if (n >= all) return let_later_start();
      u8* slot = ring + n % SLOTS * SLOT;
      Barrier* b = &there[n % SLOTS];
      const int bytes = size(n) * W::RECORD;
      barrier_expect(b, 2 * bytes);
      load_bytes(slot, r.first.record(min(tile, last), step(n)), bytes, b);
      load_bytes(slot + HALF, r.second.record(min(tile + APART, last), step(n)), bytes, b);
    };
    for (int n = 0; n < SLOTS; ++n) fetch(n);
    for (int n = 0; n < all; ++n) {
      barrier_wait(&there[n % SLOTS], n / SLOTS % 2);
      const u8* slot = ring + n % SLOTS * SLOT;
      Raw raw[2][AT_ONCE] = {};
#pragma unroll
      for (int i = 0; i < 2 * AT_ONCE; ++i) {
        if (i % AT_ONCE < size(n))
          raw[i / AT_ONCE][i % AT_ONCE] = W::load_shared(slot + i * W::RECORD, lane);
      }
      __syncwarp();
      fetch(n + SLOTS);
#pragma unroll
      for (int part = 0; part < STAGES_OF<W>; ++part) {
        const int at = n * STAGES_OF<W> + part, stage = at % PACKED_STAGES;
        if (at >= PACKED_STAGES)
          barrier_wait(&this->empty[stage], at / PACKED_STAGES % 2 ^ 1);
        u8* to = this->shared + stage * SPLIT_STAGE_BYTES + SPLIT_BOX + warp * 16 * 128;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if constexpr (Tiles::BYTES == 1) store_bytes<W>(to + half * SPLIT_BOX, raw[half]);
          else store_half<W>(to + half * SPLIT_BOX, raw[half][0], part * 2);
        }
        fence_async();
        __syncwarp();
        if (lane == 0) barrier_arrive(&this->full[stage]);
      }
    }
  }

  template <class R>
  __device__ __forceinline__ void operator()(const R& r, int tile) {
    using W = decltype(r.first);
    const int top = blockIdx.y * SPLIT_ROWS, left = tile * (SPLIT_WIDTH / R::PRODUCTS);
    const int stages = count<W>() * STAGES_OF<W>;
    if (threadIdx.x == 256) copy(stages, first<W>() * RECORDS<W> * W::STEP, top);
    if (threadIdx.x / 128 == 1) unpack(r, threadIdx.x / 32 - 4, left);
    this->consume(r, stages, top, left);
  }
};

// One launch: as gemm_split, but for PACKED_THREADS threads, and of dynamic shared memory
// PACKED_STAGES * SPLIT_STAGE_BYTES + DEEP * 8 * W::RECORD bytes.
template <class Tiles, int PARTS, int K, int DEEP, class... Results>
__device__ __forceinline__ void gemm_packed(u8* shared, const TensorMap& x, int rows,
                                            const Results&... results) {
  __shared__ Barrier barriers[2 * PACKED_STAGES + 4 * DEEP];
  Barrier *empty = barriers + PACKED_STAGES, *records = empty + PACKED_STAGES;
  GemmPacked<Tiles, PARTS, K, DEEP> g{{shared, barriers, empty, x, rows}, records};
  if (threadIdx.x < 4 * DEEP) barrier_init(&records[threadIdx.x], 1);
  barrier_init_fence();
  g.start(5);
  visit_result<SPLIT_WIDTH>(blockIdx.x / PARTS, g, results...);
}
