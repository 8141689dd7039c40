// Products of many rows on Hopper: y[m, n] = tail(m, n, sum over k of x[m, k] w[n, k]), with f32
// sums.
//
// x [rows, K] and the weights w [N, K] have their rows along K, in bf16; K is a multiple of 8. A
// block is persistent: it walks over tiles of 128 rows and WIDTH columns, 64 of K at a time. One
// thread copies tiles to a ring of STAGES buffers (TMA, 128-byte swizzle), two warpgroups multiply
// 64 rows each. The two blocks of a cluster take tiles one below the other, so that each copies one
// half of the weights' tile to both.
//
// Results are those of results.cuh, with tensor maps for weights: `result<N, STRIDE>(&w, y, tail)`.
//
// Tensor maps, all of bf16, 128-byte swizzle, zeros out of bounds and boxes of 64 along K: of x,
// {K, rows} with 128 rows a box; of weights, {K, N} with WIDTH / 2 rows a box. The map of x may have
// more rows than the launch.
#pragma once
#include "hopper.cuh"
#include "results.cuh"

// What a cluster of so many blocks shares; a block by itself needs none of it.
template <int BLOCKS>
struct Cluster {
  static __device__ __forceinline__ int rank() { return BLOCKS > 1 ? cluster_rank() : 0; }

  // All threads of all blocks.
  static __device__ __forceinline__ void meet() {
    if constexpr (BLOCKS == 1) {
      __syncthreads();
    } else {
      cluster_arrive();
      cluster_wait();
    }
  }
};

// Begins a ring of stages: one is full when so many have arrived there that fill it, and empty when
// so many have that read it. Blocks that arrive at each other's meet first.
template <int BLOCKS, int STAGES>
__device__ __forceinline__ void start_ring(Barrier* full, int fillers, Barrier* empty, int readers) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(&full[i], fillers);
      barrier_init(&empty[i], readers);
    }
    barrier_init_fence();
  }
  Cluster<BLOCKS>::meet();
}

constexpr int GEMM_ROWS = 128, GEMM_THREADS = 384;

// Bytes of dynamic shared memory of a launch.
template <int WIDTH, int STAGES>
constexpr int gemm_shared = STAGES * (GEMM_ROWS + WIDTH) * 128;

// The tiles of clusters in the order in which they are taken: down `down` of them before the next
// column, so that what runs at a time reads few rows and few columns.
struct GemmOrder {
  int rows, columns, down;
  __device__ __forceinline__ void place(int index, int& row, int& column) const {
    const int group = index / (down * columns), inside = index % (down * columns);
    const int first = group * down, height = min(down, rows - first);
    row = first + inside % height;
    column = inside / height;
  }

  // Calls `visit(row, column)` for each of the tiles of a cluster of so many blocks.
  template <int BLOCKS, class Visit>
  __device__ __forceinline__ void walk(Visit visit) const {
    for (int i = blockIdx.x / BLOCKS; i < rows * columns; i += gridDim.x / BLOCKS) {
      int row, column;
      place(i, row, column);
      visit(row, column);
    }
  }
};

template <int WIDTH, int STAGES, int BLOCKS, int K>
struct Gemm {
  static constexpr int DEPTH = 64, STEPS = (K + DEPTH - 1) / DEPTH;
  static constexpr int X_BYTES = GEMM_ROWS * 128, HALF_BYTES = WIDTH / 2 * 128;
  static constexpr int STAGE_BYTES = X_BYTES + 2 * HALF_BYTES;

  u8* shared;
  Barrier *full, *empty;
  int stage = 0, phase = 0;

  __device__ __forceinline__ void next() {
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }

  // Has the ring filled for one tile.
  template <class R>
  __device__ __forceinline__ void copy(const TensorMap& x, const R& r, int top, int tile) {
    const int left = tile * (WIDTH / R::PRODUCTS);
    const int right = R::PRODUCTS == 1 ? left + WIDTH / 2 : left;
    for (int k = 0; k < STEPS; ++k, next()) {
      u8 *to = shared + stage * STAGE_BYTES, *half = to + X_BYTES;
      Barrier* b = &full[stage];
      barrier_wait(&empty[stage], phase ^ 1);
      barrier_expect(b, STAGE_BYTES);
      load_box(to, x, b, k * DEPTH, top);
      if constexpr (BLOCKS == 1) {
        load_box(half, *r.first, b, k * DEPTH, left);
        load_box(half + HALF_BYTES, *r.second, b, k * DEPTH, right);
      } else if (Cluster<BLOCKS>::rank() == 0) {
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
      const u8 *a = shared + stage * STAGE_BYTES + mine,
               *b = shared + stage * STAGE_BYTES + X_BYTES;
      barrier_wait(&full[stage], phase);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i) wgmma_bf16(d, tile(a + i * 32), tile(b + i * 32), k + i > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (before) release(before);
      before = &empty[stage];
    }
    wgmma_wait<0>();
    release(before);
  }

  // Calls `visit(row, column of tiles)` for each tile of this block, of `columns` side by side.
  template <class Visit>
  static __device__ __forceinline__ void walk(int rows, int columns, Visit visit) {
    constexpr int ROWS = GEMM_ROWS * BLOCKS;
    const GemmOrder order{(rows + ROWS - 1) / ROWS, columns, 2048 / ROWS};
    order.template walk<BLOCKS>([&](int row, int column) {
      visit((row * BLOCKS + Cluster<BLOCKS>::rank()) * GEMM_ROWS, column);
    });
  }

  struct Copy {
    Gemm& gemm;
    const TensorMap& x;
    int top;
    template <class R>
    __device__ __forceinline__ void operator()(const R& r, int tile) const {
      gemm.copy(x, r, top, tile);
    }
  };

  struct Finish {
    float (&d)[WIDTH / 2];
    int row, rows;
    template <class R>
    __device__ __forceinline__ void operator()(const R& r, int tile) const {
      finish(r, d, row, tile * (WIDTH / R::PRODUCTS), rows);
    }
  };

  template <class... Results>
  __device__ __forceinline__ void produce(const TensorMap& x, int rows, const Results&... results) {
    walk(rows, (results.template tiles<WIDTH>() + ...), [&](int top, int column) {
      visit_result<WIDTH>(column, Copy{*this, x, top}, results...);
    });
  }

  template <class... Results>
  __device__ __forceinline__ void consume(int rows, const Results&... results) {
    const int mine = threadIdx.x / 128 * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    walk(rows, (results.template tiles<WIDTH>() + ...), [&](int top, int column) {
      float d[WIDTH / 2];
      sum(d);
      visit_result<WIDTH>(column, Finish{d, top + mine, rows}, results...);
    });
  }
};

// One launch: GEMM_THREADS threads, clusters of BLOCKS (1 or 2) blocks, as many blocks as there are
// multiprocessors or fewer, gemm_shared(WIDTH, STAGES) bytes of `shared`, which starts at a
// multiple of 1024 bytes. WIDTH is 256, 128 or 64.
template <int WIDTH, int STAGES, int BLOCKS, int K, class... Results>
__device__ __forceinline__ void gemm(u8* shared, const TensorMap& x, int rows,
                                     const Results&... results) {
  __shared__ Barrier barriers[2 * STAGES];
  Gemm<WIDTH, STAGES, BLOCKS, K> g{shared, barriers, barriers + STAGES};
  start_ring<BLOCKS, STAGES>(g.full, 1, g.empty, 2 * BLOCKS);
  wait_for_earlier();
  if (threadIdx.x >= 256) {
    give_registers<40>();
    if (threadIdx.x == 256) g.produce(x, rows, results...);
  } else {
    take_registers<232>();
    g.consume(rows, results...);
  }
  __syncwarp();
  Cluster<BLOCKS>::meet();
}
