// Packed weights on their way to Hopper's matrix units, which take them out of registers, where
// they are unpacked, as the rows of a product whose columns are the rows of x. In FP8 (E4m3Tiles,
// for which x has been rounded too), the bytes of `Fp8` are what they take; with Bf16Tiles it is 16
// bits. Scales of rows wait for the tail.
//
// Eight warps have 16 rows of weights each. A stage is what they multiply at a time: boxes of x,
// ROWS rows each, of which the columns are in the order of arrange.cuh, and a record for each warp,
// or as many as are for a box.
#pragma once
#include "gemm.cuh"
#include "weights.cuh"

// How matrix units multiply, by the bytes of a number.
struct Bf16Tiles {
  static constexpr int BYTES = 2;
  template <int R>
  static __device__ __forceinline__ void multiply(float (&d)[R], const u32 (&a)[4], u64 b) {
    wgmma_bf16(d, a, b, 1);
  }
};
struct E4m3Tiles {
  static constexpr int BYTES = 1;
  template <int R>
  static __device__ __forceinline__ void multiply(float (&d)[R], const u32 (&a)[4], u64 b) {
    wgmma_e4m3(d, a, b, 1);
  }
};

// Lanes of a warp that say that it has read a stage. One is enough, since a warp reads it together;
// compute-sanitizer's racecheck has to be told by all.
#ifndef ARRIVING_LANES
#define ARRIVING_LANES 1
#endif

constexpr int PACKED_WARPS = 8, PACKED_WIDTH = 16 * PACKED_WARPS;

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

// Results with Bf16Tiles; with E4m3Tiles they are those of results.cuh, with tails that multiply by
// all scales. N is a multiple of 8.
template <int N, int STRIDE, int FIRST = 0, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w, Y y, Tail tail) {
  return result<N, STRIDE, FIRST>(w, y, OfPacked<W, Tail>{w, w, tail});
}
template <int N, int STRIDE, int FIRST = 0, class W, class Y, class Tail>
__device__ __forceinline__ auto packed_result(W w0, W w1, Y y, Tail tail) {
  return result<N, STRIDE, FIRST>(w0, w1, y, OfPacked<W, Tail>{w0, w1, tail});
}

template <class Tiles, class W, int ROWS>
struct PackedStage {
  // Columns of a box of x; of a stage, the records of a warp and the boxes.
  static constexpr int DEPTH = 128 / Tiles::BYTES;
  static constexpr int RECORDS = W::STEP < DEPTH ? DEPTH / W::STEP : 1;
  static constexpr int BOXES = RECORDS * W::STEP / DEPTH, BOX = ROWS * 128;
  // Where the records begin, those of one warp after those of another, and bytes in all.
  static constexpr int WEIGHTS = BOXES * BOX, EACH = RECORDS * W::RECORD;
  static constexpr int BYTES = (WEIGHTS + PACKED_WARPS * EACH + 1023) / 1024 * 1024;
  // Of all columns.
  static constexpr int COUNT = (W::STEPS + RECORDS - 1) / RECORDS;

  using Records = typename W::Raw[RECORDS];
  // What matrix units take of 16 rows of weights for a box of x.
  using Fragments = u32[4][4];
  using Sums = float[ROWS / 2];

  // Records of each warp in a stage: the last one may have fewer.
  static __device__ __forceinline__ int records(int stage) {
    return W::STEPS % RECORDS == 0 ? RECORDS : min(RECORDS, W::STEPS - stage * RECORDS);
  }

  // Has the records of stage `at` of all columns copied to `to`: those of 128 rows, or of 64 of each
  // of two products, from column `left` of the result on. A warp calls it, and arrives at `b`, which
  // waits for so many bytes more.
  template <class R>
  static __device__ __forceinline__ void copy_weights(const R& r, int left, int at, u8* to,
                                                      Barrier* b, int more) {
    const int lane = threadIdx.x % 32, last = (r.n + 15) / 16 - 1;
    const int tile = left / 16 + (R::PRODUCTS == 1 ? lane : lane % (PACKED_WARPS / 2));
    const int bytes = records(at) * W::RECORD;
    if (lane == 0) barrier_expect(b, more + PACKED_WARPS * bytes);
    __syncwarp();
    if (lane < PACKED_WARPS) {
      const W& of = lane < PACKED_WARPS / 2 ? r.first : r.second;
      load_bytes(to + WEIGHTS + lane * EACH, of.record(min(tile, last), at * RECORDS), bytes, b);
    }
  }

  // The records of `warp`, of which there are so many.
  static __device__ __forceinline__ void load(Records& to, const u8* stage, int warp, int size) {
#pragma unroll
    for (int i = 0; i < RECORDS; ++i) {
      to[i] = {};
      if (i < size)
        to[i] = W::load_shared(stage + WEIGHTS + warp * EACH + i * W::RECORD, threadIdx.x % 32);
    }
  }

  // The fragments of a box.
  static __device__ __forceinline__ void unpack(Fragments& to, const Records& records, int box) {
    static_assert(Tiles::BYTES == 2 || W::EXTRA == 0, "bytes stand for numbers by scales of rows");
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      if constexpr (Tiles::BYTES == 1) {
        const uint4 &v = records[i / 2].v[0], &more = records[i / 2].v[1];
        to[i][0] = v.x, to[i][1] = v.z, to[i][2] = v.y, to[i][3] = v.w;
        to[i + 1][0] = more.x, to[i + 1][1] = more.z, to[i + 1][2] = more.y, to[i + 1][3] = more.w;
      } else {
        const int run = box * 2 + i / 2;
        Fragment f = W::unpack(records[0], run, 0);
        if constexpr (W::FOLDS) {
          const RowPair scale = W::scales(records[0], run);
          RowPair more = {0, 0};
          if constexpr (W::HAS_MINIMA) more = W::minima(records[0], run);
          scale_words(f.top, scale.top, more.top);
          scale_words(f.bottom, scale.bottom, more.bottom);
        }
        to[i][0] = f.top[0], to[i][1] = f.bottom[0], to[i][2] = f.top[1], to[i][3] = f.bottom[1];
        to[i + 1][0] = f.top[2], to[i + 1][1] = f.bottom[2];
        to[i + 1][2] = f.top[3], to[i + 1][3] = f.bottom[3];
      }
    }
  }

  // What a warp sums, of `all` stages. `wait(n)` gives the memory of a stage when it is full,
  // `take(records, memory, n)` reads a warp's records of it, `release(n)` gives it back. While
  // matrix units are at one box, the fragments of the next are made.
  template <class Wait, class Take, class Release>
  static __device__ __forceinline__ void sum(Sums& d, int all, Wait wait, Take take,
                                             Release release) {
    constexpr int TURNS = 2 / BOXES;
    Records records[TURNS];
    Fragments fragments[2];
    const u8* memory;
    // Box `at` of the two that follow each other from stage `n` on.
    const auto add = [&](int at, int n) {
      const int turn = at / BOXES, box = at % BOXES;
      n += turn;
      if (box == 0) memory = wait(n), take(records[turn], memory, n);
      unpack(fragments[at], records[turn], box);
      const u64 x = tile(memory + box * BOX);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i) Tiles::multiply(d, fragments[at][i], x + i * 2);
      wgmma_commit();
      wgmma_wait<1>();
      if (box == 0 && n > 0) release(n - 1);
    };
    int n = 0;
    for (; n + TURNS <= all; n += TURNS) add(0, n), add(1, n);
    wgmma_wait<0>();  // else products of what follows would wait for each other
    if (n < all) {
      add(0, n);
      wgmma_wait<0>();
    }
  }
};
