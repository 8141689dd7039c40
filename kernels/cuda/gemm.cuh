// Products of many rows on Hopper: y[m, n] = tail(m, n, sum over k of x[m, k] w[n, k]), with f32 sums.
//
// x [rows, K] and the weights w [N, K] have their rows along K, in bf16 or E4M3; K is a multiple of 16
// bytes. A block is persistent: it walks over tiles of 128 rows and WIDTH columns, 128 bytes of K at a
// time. One thread copies tiles to a ring of STAGES buffers (TMA, 128-byte swizzle), two warpgroups
// multiply 64 rows each. The two blocks of a cluster take tiles one below the other, so that each
// copies one half of the weights' tile to both.
//
// A launch has one or several results, each with weights, a tail and an output of its own (q, k and v
// of the same x). A result has one product, or two whose columns a tail combines (gate and up): then a
// tile has WIDTH / 2 columns of each. `float2 tail(row, col, p0, p1)` gets columns col and col + 1 of
// the first product and of the second (or of the first again), and is called for places within
// [rows, N] only; N is even. Its values are stored as f32 or bf16 to rows of STRIDE.
//
// Tensor maps, all with elements of x, 128-byte swizzle, zeros out of bounds and boxes of 128 bytes
// along K: of x, {K, rows} with 128 rows a box; of weights, {K, N} with WIDTH / 2 rows a box. The map of
// x may have more rows than the launch.
#pragma once
#include "hopper.cuh"

struct Bf16Tiles {
  static constexpr int BYTES = 2;
  template <int R>
  static __device__ __forceinline__ void multiply(float (&d)[R], u64 a, u64 b, int add) {
    wgmma_bf16(d, a, b, add);
  }
};

struct E4m3Tiles {
  static constexpr int BYTES = 1;
  template <int R>
  static __device__ __forceinline__ void multiply(float (&d)[R], u64 a, u64 b, int add) {
    wgmma_e4m3(d, a, b, add);
  }
};

constexpr int GEMM_ROWS = 128, GEMM_THREADS = 384;

// Bytes of dynamic shared memory of a launch.
constexpr int gemm_shared(int width, int stages) { return stages * (GEMM_ROWS + width) * 128; }

template <int PRODUCTS_, int N_, int STRIDE_, class Out_, class Tail>
struct GemmResult {
  static constexpr int PRODUCTS = PRODUCTS_, N = N_, STRIDE = STRIDE_;
  using Out = Out_;
  const TensorMap *first, *second;  // the weights of a tile's left half and of its right half
  Out* y;
  Tail tail;
};

template <int N, int STRIDE, class Out, class Tail>
__device__ __forceinline__ GemmResult<1, N, STRIDE, Out, Tail> gemm_result(const TensorMap& w, Out* y,
                                                                           Tail tail) {
  return {&w, &w, y, tail};
}

template <int N, int STRIDE, class Out, class Tail>
__device__ __forceinline__ GemmResult<2, N, STRIDE, Out, Tail> gemm_result(
    const TensorMap& w0, const TensorMap& w1, Out* y, Tail tail) {
  return {&w0, &w1, y, tail};
}

// Tiles side by side that a result takes.
template <int WIDTH, class Result>
constexpr int gemm_tiles = (Result::N * Result::PRODUCTS + WIDTH - 1) / WIDTH;

// Calls `visit(result, tile)` for the result that has column of tiles `tile`, counted from its first.
template <int WIDTH, class Visit, class First, class... Rest>
__device__ __forceinline__ void gemm_visit(int tile, Visit visit, const First& first,
                                           const Rest&... rest) {
  if constexpr (sizeof...(Rest) > 0) {
    constexpr int TILES = gemm_tiles<WIDTH, First>;
    if (tile >= TILES) return gemm_visit<WIDTH>(tile - TILES, visit, rest...);
  }
  visit(first, tile);
}

// The tiles in the order in which they are taken: down 16 of them before the next column, so that
// what runs at a time reads few rows and few columns.
template <int BLOCKS, int COLUMNS>
struct GemmOrder {
  int rows;  // of clusters' tiles
  __device__ __forceinline__ explicit GemmOrder(int m)
      : rows((m + GEMM_ROWS * BLOCKS - 1) / (GEMM_ROWS * BLOCKS)) {}
  __device__ __forceinline__ int size() const { return rows * COLUMNS; }
  __device__ __forceinline__ void place(int index, int& row, int& column) const {
    constexpr int DOWN = 16 / BLOCKS;
    const int group = index / (DOWN * COLUMNS), inside = index % (DOWN * COLUMNS);
    const int first = group * DOWN, height = min(DOWN, rows - first);
    row = (first + inside % height) * BLOCKS;
    column = inside / height;
  }
};

// Sends what a quad of threads holds, column pairs (2 t, 2 t + 1) of four groups of eight in thread t,
// to where thread t holds the eight columns of group t.
__device__ __forceinline__ void quad_transpose(u32 (&v)[4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 got = __shfl_xor_sync(~0u, t & 2 ? v[i] : v[i + 2], 2);
    if (t & 2) v[i] = got;
    else v[i + 2] = got;
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const u32 got = __shfl_xor_sync(~0u, t & 1 ? v[i] : v[i + 1], 1);
    if (t & 1) v[i] = got;
    else v[i + 1] = got;
  }
}

__device__ __forceinline__ void store_pair(float* y, float2 v) { *(float2*)y = v; }

__device__ __forceinline__ void store_pair(__nv_bfloat16* y, float2 v) {
  *(__nv_bfloat162*)y = __float22bfloat162_rn(v);
}

// Stores four pairs of values of one row: pair j stands at column 8 j + 2 t of the 32 from `col` on.
template <class Result>
__device__ __forceinline__ void gemm_store(const Result& r, float2 (&v)[4], int row, int col, int rows) {
  using Out = typename Result::Out;
  Out* y = r.y + (size_t)row * Result::STRIDE;
  const int t = threadIdx.x % 4;
  if constexpr (sizeof(Out) == 2 && Result::STRIDE % 8 == 0 && Result::N % 8 == 0) {
    u32 bits[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) store_pair((__nv_bfloat16*)&bits[j], v[j]);
    quad_transpose(bits);
    if (row < rows && col + 8 * t < Result::N) {
      *(uint4*)(y + col + 8 * t) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = col + 8 * j + 2 * t;
      if (row < rows && c < Result::N) store_pair(y + c, v[j]);
    }
  }
}

// The tail of a warpgroup's sums, 64 rows from `top` on, in column `tile` of the result's tiles.
template <class Result, int SUMS>
__device__ __forceinline__ void gemm_finish(const Result& r, const float (&d)[SUMS], int top, int tile,
                                            int rows) {
  constexpr int EACH = SUMS / Result::PRODUCTS, SECOND = SUMS - EACH;
  const int left = tile * 2 * EACH;
  const int lane = threadIdx.x % 32, row0 = top + threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = row0 + 8 * h;
#pragma unroll
    for (int i = 0; i < EACH; i += 16) {
      float2 v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = i + 4 * j + 2 * h, col = left + at / 4 * 8 + lane % 4 * 2;
        v[j] = make_float2(0, 0);
        if (row < rows && col < Result::N) {
          v[j] = r.tail(row, col, make_float2(d[at], d[at + 1]),
                        make_float2(d[at + SECOND], d[at + SECOND + 1]));
        }
      }
      gemm_store(r, v, row, left + i * 2, rows);
    }
  }
}

template <class Tiles, int WIDTH, int STAGES, int BLOCKS, int K>
struct Gemm {
  static constexpr int DEPTH = 128 / Tiles::BYTES, STEPS = (K + DEPTH - 1) / DEPTH;
  static constexpr int X_BYTES = GEMM_ROWS * 128, HALF_BYTES = WIDTH / 2 * 128;
  static constexpr int STAGE_BYTES = X_BYTES + 2 * HALF_BYTES;

  u8* shared;
  Barrier *full, *empty;
  int stage = 0, phase = 0;

  __device__ __forceinline__ void next() {
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }

  static __device__ __forceinline__ int rank() { return BLOCKS > 1 ? cluster_rank() : 0; }

  // Has the ring filled for one tile.
  template <class Result>
  __device__ __forceinline__ void copy(const TensorMap& x, const Result& r, int top, int tile) {
    const int left = tile * (WIDTH / Result::PRODUCTS);
    const int right = Result::PRODUCTS == 1 ? left + WIDTH / 2 : left;
    for (int k = 0; k < STEPS; ++k, next()) {
      u8 *to = shared + stage * STAGE_BYTES, *half = to + X_BYTES;
      Barrier* b = &full[stage];
      barrier_wait(&empty[stage], phase ^ 1);
      barrier_expect(b, STAGE_BYTES);
      load_box(to, x, b, k * DEPTH, top);
      if constexpr (BLOCKS == 1) {
        load_box(half, *r.first, b, k * DEPTH, left);
        load_box(half + HALF_BYTES, *r.second, b, k * DEPTH, right);
      } else if (rank() == 0) {
        load_box_to(half, *r.first, b, k * DEPTH, left, 3);
      } else {
        load_box_to(half + HALF_BYTES, *r.second, b, k * DEPTH, right, 3);
      }
    }
  }

  // Gives a stage back to all who fill it.
  static __device__ __forceinline__ void release(Barrier* b) {
    const int t = threadIdx.x % 128;
    if constexpr (BLOCKS == 1) {
      if (t == 0) barrier_arrive(b);
    } else {
      if (t < BLOCKS) barrier_arrive_at(b, t);
    }
  }

  // Sums the 64 rows of this warpgroup.
  __device__ __forceinline__ void sum(float (&d)[WIDTH / 2]) {
    const int mine = threadIdx.x / 128 * 64 * 128;
    Barrier* before = nullptr;
    for (int k = 0; k < STEPS; ++k, next()) {
      const u8 *a = shared + stage * STAGE_BYTES + mine, *b = shared + stage * STAGE_BYTES + X_BYTES;
      barrier_wait(&full[stage], phase);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i) Tiles::multiply(d, tile(a + i * 32), tile(b + i * 32), k + i > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (before) release(before);
      before = &empty[stage];
    }
    wgmma_wait<0>();
    release(before);
  }

  // Calls `visit(row, column of tiles)` for each tile of this block, of COLUMNS side by side.
  template <int COLUMNS, class Visit>
  static __device__ __forceinline__ void walk(int rows, Visit visit) {
    const GemmOrder<BLOCKS, COLUMNS> order(rows);
    for (int i = blockIdx.x / BLOCKS; i < order.size(); i += gridDim.x / BLOCKS) {
      int row, column;
      order.place(i, row, column);
      visit((row + rank()) * GEMM_ROWS, column);
    }
  }

  template <class... Results>
  __device__ __forceinline__ void produce(const TensorMap& x, int rows, const Results&... results) {
    walk<(gemm_tiles<WIDTH, Results> + ...)>(rows, [&](int top, int column) {
      gemm_visit<WIDTH>(column, [&](const auto& r, int tile) { copy(x, r, top, tile); }, results...);
    });
  }

  template <class... Results>
  __device__ __forceinline__ void consume(int rows, const Results&... results) {
    const int mine = threadIdx.x / 128 * 64;
    walk<(gemm_tiles<WIDTH, Results> + ...)>(rows, [&](int top, int column) {
      float d[WIDTH / 2];
      sum(d);
      const auto finish = [&](const auto& r, int tile) { gemm_finish(r, d, top + mine, tile, rows); };
      gemm_visit<WIDTH>(column, finish, results...);
    });
  }

  __device__ __forceinline__ void start() {
    if (threadIdx.x == 0) {
      for (int i = 0; i < STAGES; ++i) {
        barrier_init(&full[i], 1);
        barrier_init(&empty[i], 2 * BLOCKS);
      }
      barrier_init_fence();
    }
    meet();
  }

  // All threads of all blocks that share a ring.
  static __device__ __forceinline__ void meet() {
    if constexpr (BLOCKS == 1) {
      __syncthreads();
    } else {
      cluster_arrive();
      cluster_wait();
    }
  }
};

// One launch: GEMM_THREADS threads, clusters of BLOCKS (1 or 2) blocks, as many blocks as there are
// multiprocessors or fewer, gemm_shared(WIDTH, STAGES) bytes of `shared`, which starts at a multiple of
// 1024 bytes. WIDTH is 256, 128 or 64.
template <class Tiles, int WIDTH, int STAGES, int BLOCKS, int K, class... Results>
__device__ __forceinline__ void gemm(u8* shared, const TensorMap& x, int rows, const Results&... results) {
  __shared__ Barrier barriers[2 * STAGES];
  Gemm<Tiles, WIDTH, STAGES, BLOCKS, K> g{shared, barriers, barriers + STAGES};
  g.start();
  wait_for_earlier();
  if (threadIdx.x >= 256) {
    give_registers<40>();
    if (threadIdx.x == 256) g.produce(x, rows, results...);
  } else {
    take_registers<232>();
    g.consume(rows, results...);
  }
  g.meet();
}
