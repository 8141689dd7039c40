// Products with few rows: y[m, n] = tail(m, n, sum over k of x[m, k] w[n, k]), with f32 sums.
//
// What counts is to read the weights once at the memory's speed. A block takes tiles of W::HEIGHT
// rows of w (`block`, `block` + `blocks`, ...); its warps take the tiles' steps of W::STEP columns in
// turn. A warp copies its own part of the weights to a ring of STAGES steps in shared memory, which
// it alone reads back: loads run ahead without waiting for other warps, across tiles. Matrix units
// multiply a tile, as up to 16 rows, by up to 8 rows of x, as the 8 columns. The sums of the warps
// are added in order, for ROUND tiles at a time.
//
// A launch has S::THREADS threads, SKINNY_SHARED bytes of shared memory, and the fewest blocks with
// which none has more tiles than if there were one for each multiprocessor: uneven shares cost up
// to a tenth, and so do idle multiprocessors, which is why tiles may have fewer rows. It takes most
// of the shared memory so that a multiprocessor takes one block: of two on one of them, another
// would go without; with room for two, one of the next kernel beside one of this, an H100 gave 0.94
// of the tokens in bf16 and 0.87 in NVFP4. When its last loads are under way, a block lets the next
// kernel start, whose first loads fill the gap.
//
// x is f32 or bf16. With PARTS = 2, a number of x is the sum of two bf16 (16 bits of fraction),
// each with columns of its own; with PARTS = 1 it is rounded to bf16. If X_STAYS, all of x is
// brought to shared memory once, by `In`, which may normalise it:
//   float4 in.at(row, k)      x[row, k .. k + 3]
//   In::NORMS                 whether x[row] is divided by sqrt(mean of squares + in.epsilon)
//   float4 in.weight(k)       if so: what the columns of x are multiplied by, which no earlier kernel
//                             of the same graph may write
// Otherwise its 16-byte pieces travel through the ring beside the weights: for x that is too large,
// which must be bf16 (`PlainRows<bf16>`), with PARTS = 1.
//
// A launch has one or several results, each with blocks of its own. Those that differ in addresses
// and in rows of w alone are computed by the same code; the wrapper chooses among others by
// blockIdx.x. A result has one product or two of the same n (gate and up); then p1 of
// `float tail(row, n, p0, p1)` is the second, otherwise it is p0. tail's value is stored to
// y[row * stride + n], or to where a `Placed` y puts it.
#pragma once
#include "placed.cuh"
#include "weights.cuh"

// x as it is, in rows of `stride` numbers.
template <class T>
struct PlainRows {
  static constexpr bool NORMS = false;
  const T* x;
  int stride;
  __device__ __forceinline__ float4 at(int row, int k) const {
    return load_4(x + (u64)row * stride + k);
  }
};

// x normalised by the root of its mean square, then times g.
template <class T, class G>
struct NormedRows {
  static constexpr bool NORMS = true;
  const T* x;
  int stride;
  const G* g;
  float epsilon;
  __device__ __forceinline__ float4 at(int row, int k) const {
    return load_4(x + (u64)row * stride + k);
  }
  __device__ __forceinline__ float4 weight(int k) const {
    return load_4(g + k);
  }
};

// Dynamic shared memory of a launch, whatever it needs of it, in bytes.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int SKINNY_SHARED = 160 * 1024;
#else
constexpr int SKINNY_SHARED = 213 * 1024;
#endif

// How a result is computed: MAX rows of x at most (1, 2, 4, 8 or 16), blocks of WARPS warps: 16, a
// half of them for 8 rows and more, and a half for two products whose steps are large.
template <class Weights, int PRODUCTS_, int MAX_, int PARTS_, bool X_STAYS_,
          int WARPS_ = 16 / (MAX_ > 4 ? 2 : 1) / (PRODUCTS_ * Weights::PIECE > 3072 ? 2 : 1),
          int STAGES_MAX = Weights::AHEAD * 16 / WARPS_>
struct Skinny {
  using W = Weights;
  static constexpr int PRODUCTS = PRODUCTS_, MAX = MAX_, PARTS = PARTS_, WARPS = WARPS_;
  static constexpr bool X_STAYS = X_STAYS_;
  static_assert(X_STAYS || PARTS == 1, "x in parts is made in shared memory");

  static constexpr int THREADS = 32 * WARPS;
  static constexpr int COLUMNS = MAX * PARTS, UNITS = (COLUMNS + 7) / 8;
  static constexpr int RUNS = W::STEP / 32, DEPTH = W::STEPS * W::STEP;
  // Rows of x start 64 bytes apart modulo 128, so that eight lanes read 128 different bytes.
  static constexpr int X_STRIDE = DEPTH + (DEPTH % 64 == 0 ? 32 : 0);
  static constexpr int X_BYTES = X_STAYS ? COLUMNS * X_STRIDE * 2 : 0;
  static constexpr int SUMS = WARPS * PRODUCTS * COLUMNS * 16;  // floats a tile
  static constexpr int FIT = 4096 / SUMS, ROUND = FIT < 1 ? 1 : FIT > 4 ? 4 : FIT;
  static constexpr int SQUARES = WARPS * MAX;  // floats
  // Of a row of x, so many times four numbers of each thread are under way at once.
  static constexpr int TURNS = (DEPTH + 4 * THREADS - 1) / (4 * THREADS);
  static constexpr int BATCH = TURNS < 8 ? TURNS : 8;
  // Sums are there twice, in turn.
  static constexpr int OTHERS = X_BYTES + (2 * ROUND * SUMS + SQUARES) * 4;

  static constexpr int SLOT = PRODUCTS * W::PIECE + (X_STAYS ? 0 : RUNS * UNITS * 512);
  static constexpr int THAT_FIT = (SKINNY_SHARED - OTHERS) / (WARPS * SLOT);
  static constexpr int STAGES = THAT_FIT < STAGES_MAX ? THAT_FIT : STAGES_MAX;
  static constexpr int RING = WARPS * STAGES * SLOT;
  static_assert(OTHERS < SKINNY_SHARED && STAGES > 1, "x is too large to stay in shared memory");
};

// Where a warp is in its sequence of tiles and steps.
template <class S>
struct SkinnyCursor {
  int tile, step, tiles, blocks;
  __device__ __forceinline__ SkinnyCursor(int tiles, int block, int blocks, int warp)
      : tile(block + warp / S::W::STEPS * blocks),
        step(warp % S::W::STEPS),
        tiles(tiles),
        blocks(blocks) {}
  __device__ __forceinline__ bool inside() const { return tile < tiles; }
  __device__ __forceinline__ void advance() {
    step += S::WARPS;
    if constexpr (S::WARPS <= S::W::STEPS) {
      if (step >= S::W::STEPS) step -= S::W::STEPS, tile += blocks;
    } else {
      tile += step / S::W::STEPS * blocks, step %= S::W::STEPS;
    }
  }
};

// One of a launch's results: its matrices, its tail, rows of `stride` columns, and the blocks that
// compute it.
template <class S, class Y, class Tail>
struct SkinnyPart {
  typename S::W weights[S::PRODUCTS];
  Tail tail;
  Y y;
  int stride, first, blocks;
};

template <class S, class Y, class Tail>
__device__ __forceinline__ SkinnyPart<S, Y, Tail> skinny_part(
    const typename S::W (&weights)[S::PRODUCTS], Tail tail, Y y, int stride, int first,
    int blocks) {
  if constexpr (S::PRODUCTS == 1) return {{weights[0]}, tail, y, stride, first, blocks};
  else return {{weights[0], weights[1]}, tail, y, stride, first, blocks};
}

template <class S, class In, class Part>
struct SkinnyBlock {
  using W = typename S::W;
  const In& in;
  const Part& part;
  int rows;
  u8* shared;
  int warp = kept(threadIdx.x / 32), lane = kept(threadIdx.x % 32);

  __device__ __forceinline__ int tiles() const {
    return (part.weights[0].rows + W::HEIGHT - 1) / W::HEIGHT;
  }
  __device__ __forceinline__ int block() const { return (int)blockIdx.x - part.first; }

  // This warp's ring: STAGES slots.
  __device__ __forceinline__ u8* ring() const { return shared + warp * (S::STAGES * S::SLOT); }
  __device__ __forceinline__ float* sums(int turn) const {
    return (float*)(shared + S::RING) + turn * S::ROUND * S::SUMS;
  }
  __device__ __forceinline__ float* squares() const { return sums(2); }
  __device__ __forceinline__ bf16* staged() const { return (bf16*)(squares() + S::SQUARES); }

  __device__ __forceinline__ void fetch(const SkinnyCursor<S>& at, u8* slot) const {
    if (!at.inside()) return;
#pragma unroll
    for (int p = 0; p < S::PRODUCTS; ++p)
      part.weights[p].fetch(slot + p * W::PIECE, at.tile, at.step, lane);
  }

  // This lane's pieces of x for a step, after the weights. Columns past the last row repeat it.
  __device__ __forceinline__ void fetch_x(const SkinnyCursor<S>& at, u8* slot) const {
    if constexpr (!S::X_STAYS) {
      if (!at.inside()) return;
      u8* to = slot + S::PRODUCTS * W::PIECE + lane * 16;
#pragma unroll
      for (int u = 0; u < S::UNITS; ++u) {
        const bf16* row = in.x + (u64)min(u * 8 + lane / 4, rows - 1) * in.stride;
#pragma unroll
        for (int run = 0; run < S::RUNS; ++run) {
          int k = at.step * W::STEP + run * 32 + lane % 4 * 8;
          // Past the last column the weights are zeros: any number will do.
          copy<16>(to + (run * S::UNITS + u) * 512, row + (k < W::COLUMNS ? k : 0));
        }
      }
    }
  }

  // What this thread's columns of x from `start` on are multiplied by.
  using Weighting = float4[S::BATCH];
  __device__ __forceinline__ int column(int start, int i) const {
    return start + (i * S::THREADS + threadIdx.x) * 4;
  }
  __device__ __forceinline__ void load_weighting(Weighting& g, int start) const {
    if constexpr (In::NORMS) {
#pragma unroll
      for (int i = 0; i < S::BATCH; ++i) {
        int k = column(start, i);
        g[i] = k < W::COLUMNS ? in.weight(k) : float4{0, 0, 0, 0};
      }
    }
  }

  // Brings x to shared memory as bf16, and the squares' sums of this warp's share. `g` is for the
  // first columns.
  __device__ __forceinline__ void stage_x(Weighting& g) const {
    constexpr int WIDTH = S::BATCH * S::THREADS * 4;
    for (int row = 0; row < rows; ++row) {
      float square = 0;
      for (int start = 0; start < S::DEPTH; start += WIDTH) {
        float4 v[S::BATCH];
#pragma unroll
        for (int i = 0; i < S::BATCH; ++i) {
          int k = column(start, i);
          v[i] = k < W::COLUMNS ? in.at(row, k) : float4{0, 0, 0, 0};
        }
        if (WIDTH < S::DEPTH && row + start > 0) load_weighting(g, start);
#pragma unroll
        for (int i = 0; i < S::BATCH; ++i) {
          int k = column(start, i);
          if (k < S::DEPTH) square += place(row, k, v[i], g[i]);
        }
      }
      if constexpr (In::NORMS) {
        square = warp_sum(square);
        if (lane == 0) squares()[warp * S::MAX + row] = square;
      }
    }
  }

  // Four numbers of x into their columns, times `g`. Returns the sum of their squares.
  __device__ __forceinline__ float place(int row, int k, float4 v, const float4& g) const {
    float square = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    if constexpr (In::NORMS) v = {v.x * g.x, v.y * g.y, v.z * g.z, v.w * g.w};
#pragma unroll
    for (int i = 0; i < S::PARTS; ++i) {
      bf16* to = staged() + (i * S::MAX + row) * S::X_STRIDE + k;
      *(uint2*)to = {bf16_part(v.x, v.y, i), bf16_part(v.z, v.w, i)};
    }
    return square;
  }

  // The eight numbers of x that belong to this lane's weights, for unit u of columns.
  __device__ __forceinline__ uint4 x_words(const u8* slot, int step, int run, int u) const {
    if constexpr (S::X_STAYS) {
      int column = (u * 8 + lane / 4) % S::COLUMNS;
      return *(const uint4*)(staged() + column * S::X_STRIDE + lane % 4 * 8 + step * W::STEP +
                             run * 32);
    } else {
      const u8* x = slot + S::PRODUCTS * W::PIECE + lane * 16;
      return *(const uint4*)(x + (run * S::UNITS + u) * 512);
    }
  }

  // In two chains where there would be one, which waits for itself.
  static constexpr int CHAINS = S::PRODUCTS * S::UNITS == 1 && !W::FOLDS ? 2 : 1;
  using Sums = float[S::PRODUCTS][S::UNITS][CHAINS][4];

  static __device__ __forceinline__ void multiply(float (&to)[4], const Fragment& f,
                                                  const uint4& x) {
    mma_bf16(to, {f.top[0], f.bottom[0], f.top[1], f.bottom[1]}, {x.x, x.y});
    mma_bf16(to, {f.top[2], f.bottom[2], f.top[3], f.bottom[3]}, {x.z, x.w});
  }

  // Adds the products of 32 columns that have a scale, and perhaps a minimum, of their own.
  static __device__ __forceinline__ void fold(float (&to)[4], const typename W::Raw& raw, int run,
                                              const uint4& x) {
    float part[4] = {0, 0, 0, 0};
    multiply(part, W::unpack(raw, run, 0), x);
    RowPair scale = W::scales(raw, run);
    to[0] += scale.top * part[0], to[1] += scale.top * part[1];
    to[2] += scale.bottom * part[2], to[3] += scale.bottom * part[3];
    if constexpr (W::HAS_MINIMA) {
      constexpr u32 ONES = 0x3f803f80;
      float total[4] = {0, 0, 0, 0};
      multiply(total, {{ONES, ONES, ONES, ONES}, {ONES, ONES, ONES, ONES}}, x);
      RowPair minimum = W::minima(raw, run);
      to[0] += minimum.top * total[0], to[1] += minimum.top * total[1];
      to[2] += minimum.bottom * total[2], to[3] += minimum.bottom * total[3];
    }
  }

  __device__ __forceinline__ void add_step(Sums& sum, const u8* slot, int step) const {
    typename W::Raw raw[S::PRODUCTS];
#pragma unroll
    for (int p = 0; p < S::PRODUCTS; ++p) raw[p] = W::load(slot + p * W::PIECE, lane);
#pragma unroll
    for (int run = 0; run < S::RUNS; ++run) {
#pragma unroll
      for (int u = 0; u < S::UNITS; ++u) {
        uint4 x = x_words(slot, step, run, u);
#pragma unroll
        for (int p = 0; p < S::PRODUCTS; ++p) {
          float(&to)[4] = sum[p][u][run % CHAINS];
          if constexpr (W::FOLDS) {
            fold(to, raw[p], run, x);
          } else {
#pragma unroll
            for (int i = 0; i < W::PARTS; ++i) multiply(to, W::unpack(raw[p], run, i), x);
          }
        }
      }
    }
  }

  // Leaves this warp's sums in shared memory: [warp, product, column, 16].
  __device__ __forceinline__ void leave(const Sums& sum, float* to) const {
#pragma unroll
    for (int p = 0; p < S::PRODUCTS; ++p) {
#pragma unroll
      for (int u = 0; u < S::UNITS; ++u) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          int column = u * 8 + lane % 4 * 2 + i % 2, row = lane / 4 + i / 2 * 8;
          float x = sum[p][u][0][i];
          if constexpr (CHAINS == 2) x += sum[p][u][1][i];
          if (column < S::COLUMNS)
            to[((warp * S::PRODUCTS + p) * S::COLUMNS + column) * 16 + row] = x;
        }
      }
    }
  }

  __device__ __forceinline__ float total(const float* from, int product, int row, int r) const {
    float sum = 0;
    for (int w = 0; w < S::WARPS; ++w) {
#pragma unroll
      for (int i = 0; i < S::PARTS; ++i)
        sum += from[((w * S::PRODUCTS + product) * S::COLUMNS + i * S::MAX + row) * 16 + r];
    }
    return sum;
  }

  __device__ __forceinline__ float norm(int row) const {
    if constexpr (In::NORMS) {
      float sum = 0;
      for (int w = 0; w < S::WARPS; ++w) sum += squares()[w * S::MAX + row];
      return rsqrtf(sum / W::COLUMNS + in.epsilon);
    } else {
      return 1;
    }
  }

  // Stores the results of a round of tiles from `first` on.
  __device__ __forceinline__ void finish(const float* from, int first) const {
    constexpr int HEIGHT = W::HEIGHT;
    for (int i = threadIdx.x; i < S::ROUND * HEIGHT * rows; i += S::THREADS) {
      int turn = i / (HEIGHT * rows), row = i / HEIGHT % rows, r = i % HEIGHT;
      int n = (first + turn * part.blocks) * HEIGHT + r;
      if (n >= part.weights[0].rows) continue;
      float factor = norm(row), p[S::PRODUCTS];
#pragma unroll
      for (int q = 0; q < S::PRODUCTS; ++q)
        p[q] = total(from + turn * S::SUMS, q, row, r) * part.weights[q].scale(n) * factor;
      row_of(part.y, row, part.stride)[n] = from_float<ElementOf<decltype(part.y)>>(
          part.tail(row, n, p[0], p[S::PRODUCTS - 1]));
    }
  }

  // Lets the next kernel start when nothing is left to load here: its first loads fill the gap.
  __device__ __forceinline__ void let_later_start_after(const SkinnyCursor<S>& ahead) const {
    if (!ahead.inside()) let_later_start();
  }

  __device__ __forceinline__ void start(SkinnyCursor<S>& ahead) const {
    SkinnyCursor<S> again = ahead;
#pragma unroll
    for (int stage = 0; stage < S::STAGES - 1; ++stage, ahead.advance()) {
      fetch(ahead, ring() + stage * S::SLOT);
      copies_end();
    }
    let_later_start_after(ahead);
    Weighting g;
    if constexpr (S::X_STAYS) load_weighting(g, 0);
    wait_for_earlier();
    if constexpr (S::X_STAYS) {
      stage_x(g);
      __syncthreads();
    } else {
      for (int stage = 0; stage < S::STAGES - 1; ++stage, again.advance())
        fetch_x(again, ring() + stage * S::SLOT);
      copies_end();
      copies_wait<0>();
    }
  }

  __device__ __forceinline__ void run() const {
    SkinnyCursor<S> ahead(tiles(), block(), part.blocks, warp);
    start(ahead);
    u8 *const first_slot = ring(), *const last_slot = first_slot + (S::STAGES - 1) * S::SLOT;
    u8 *slot = first_slot, *freed = last_slot;
    int step = warp, tile = block();
    for (int turn = 0; tile < tiles(); turn ^= 1) {
      int first = tile;
      for (int i = 0; i < S::ROUND && tile < tiles(); ++i, step -= W::STEPS) {
        Sums sum = {};
        for (; step < W::STEPS; step += S::WARPS) {
          copies_wait<S::STAGES - 2>();
          W::meet();
          if (ahead.inside()) {
            fetch(ahead, freed);
            fetch_x(ahead, freed);
            ahead.advance();
            let_later_start_after(ahead);
          }
          copies_end();
          add_step(sum, slot, step);
          freed = slot;
          slot = slot == last_slot ? first_slot : slot + S::SLOT;
        }
        leave(sum, sums(turn) + i * S::SUMS);
        tile += part.blocks;
      }
      __syncthreads();
      finish(sums(turn), first);
    }
  }
};

// Results that are computed alike, in the order of their blocks, of which `part` has the first.
template <class In, class S, class Y, class Tail, class... Parts>
__device__ __forceinline__ void skinny(const In& in, int rows, void* shared,
                                       SkinnyPart<S, Y, Tail> part, const Parts&... others) {
  const int block = blockIdx.x;
  // By copies under a condition: one of two addresses would bring all of it to memory.
  ((others.first <= block ? void(part = others) : void()), ...);
  SkinnyBlock<S, In, SkinnyPart<S, Y, Tail>>{in, part, rows, (u8*)shared}.run();
}
