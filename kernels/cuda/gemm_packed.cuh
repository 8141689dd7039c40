// Products of many rows on Hopper with packed weights: what gemm.cuh computes, with weights as
// packed_stages.cuh takes them. So a column of what matrix units compute is a row of the result, and
// changes back before its tail.
//
// A block is persistent: it walks over tiles of ROWS rows and 128 columns (or 64 of each of two
// products). One warp copies weights to a ring of stages, as deep as there is room for, and one x;
// two warpgroups multiply 64 rows of weights each. The two blocks of a cluster take tiles side by
// side, so that each copies one half of the rows of x to both; blocks by themselves are for tests,
// in which racecheck sees all copies. Of two products, a warp has eight rows of each: those of the
// upper halves of records, or of the lower ones.
//
// The tensor map of x has columns in the order of arrange.cuh and ROWS / BLOCKS rows a box, else it
// is as gemm.cuh's. Results are those of packed_stages.cuh.
#pragma once
#include "packed_stages.cuh"

// Bytes of the largest stage with weights of any of these types.
template <class Tiles, int ROWS, class W, class... Rest>
constexpr int packed_bytes = packed_bytes<Tiles, ROWS, W> > packed_bytes<Tiles, ROWS, Rest...>
                                 ? packed_bytes<Tiles, ROWS, W>
                                 : packed_bytes<Tiles, ROWS, Rest...>;
template <class Tiles, int ROWS, class W>
constexpr int packed_bytes<Tiles, ROWS, W> = PackedStage<Tiles, W, ROWS>::BYTES;

// Stages for which there is room, and bytes of dynamic shared memory of a launch.
template <class Tiles, int ROWS, class... W>
constexpr int packed_stages = 226 * 1024 / packed_bytes<Tiles, ROWS, W...>;
template <class Tiles, int ROWS, class... W>
constexpr int packed_shared = packed_stages<Tiles, ROWS, W...> * packed_bytes<Tiles, ROWS, W...>;

template <class Tiles, int ROWS, int BLOCKS, int BYTES, int STAGES>
struct GemmPacked {
  static constexpr int WIDTH = PACKED_WIDTH * BLOCKS;  // columns of a cluster's tile
  template <class W>
  using Stage = PackedStage<Tiles, W, ROWS>;
  using Sums = float[ROWS / 2];

  u8* shared;
  Barrier *full, *empty;
  int done = 0;  // stages of the tiles before this one

  // Of stage n of this tile: its place in the ring, and the parity of the phase in which that is
  // full.
  __device__ __forceinline__ int place(int n) const { return (u32)(done + n) % STAGES; }
  __device__ __forceinline__ int phase(int n) const { return (u32)(done + n) / STAGES % 2; }
  __device__ __forceinline__ u8* stage(int n) const { return shared + place(n) * BYTES; }

  // What the warps do that copy: one has the weights of the stages of a tile filled, one x.
  template <class R>
  __device__ __forceinline__ void copy_weights(const R& r, int left) {
    using S = Stage<decltype(r.first)>;
    for (int n = 0; n < S::COUNT; ++n) {
      barrier_wait(&empty[place(n)], phase(n) ^ 1);
      S::copy_weights(r, left, n, stage(n), &full[place(n)], 0);
    }
    done += S::COUNT;
  }
  template <class S>
  __device__ __forceinline__ void copy_x(const TensorMap& x, int top) {
    const int rank = Cluster<BLOCKS>::rank(), row = rank * (ROWS / BLOCKS);
    for (int n = 0; n < S::COUNT; ++n) {
      Barrier* b = &full[place(n)];
      barrier_wait(&empty[place(n)], phase(n) ^ 1);
      barrier_expect(b, S::WEIGHTS);
#pragma unroll
      for (int box = 0; box < S::BOXES; ++box) {
        u8* to = stage(n) + box * S::BOX + row * 128;
        const int column = (n * S::BOXES + box) * S::DEPTH;
        if constexpr (BLOCKS == 1) load_box(to, x, b, column, top + row);
        else load_box_to(to, x, b, column, top + row, (1 << BLOCKS) - 1);
      }
    }
    done += S::COUNT;
  }

  // Gives a stage back to all who fill it.
  __device__ __forceinline__ void release(int n) const {
    const int lane = threadIdx.x % 32;
    if constexpr (BLOCKS == 1) {
      if (lane < ARRIVING_LANES) barrier_arrive(&empty[place(n)]);
    } else {
      if (lane < BLOCKS) barrier_arrive_at(&empty[place(n)], lane);
    }
  }

  template <class W, int PRODUCTS>
  __device__ __forceinline__ void sum(Sums& d, int warp) {
    using S = Stage<W>;
    const auto wait = [&](int n) {
      barrier_wait(&full[place(n)], phase(n));
      return stage(n);
    };
    const auto take = [&](typename S::Records& to, const u8* memory, int n) {
      constexpr int HALF = PACKED_WARPS / 2;
      const int size = S::records(n);
      if constexpr (PRODUCTS == 1) {
        S::load(to, memory, warp, size);
      } else {
        typename S::Records first, second;
        S::load(first, memory, warp % HALF, size);
        S::load(second, memory, warp % HALF + HALF, size);
#pragma unroll
        for (int i = 0; i < S::RECORDS; ++i) to[i] = W::halves(first[i], second[i], warp / HALF);
      }
    };
    S::sum(d, S::COUNT, wait, take, [&](int n) { release(n); });
    release(S::COUNT - 1);
    done += S::COUNT;
  }

  // The first column of this block's tile, of a cluster's.
  template <class R>
  static __device__ __forceinline__ int left(int tile) {
    return (tile * BLOCKS + Cluster<BLOCKS>::rank()) * (PACKED_WIDTH / R::PRODUCTS);
  }

  struct CopyWeights {
    GemmPacked& gemm;
    template <class R>
    __device__ __forceinline__ void operator()(const R& r, int tile) const {
      gemm.copy_weights(r, left<R>(tile));
    }
  };

  struct CopyX {
    GemmPacked& gemm;
    const TensorMap& x;
    int top;
    template <class R>
    __device__ __forceinline__ void operator()(const R& r, int) const {
      gemm.template copy_x<Stage<decltype(r.first)>>(x, top);
    }
  };

  struct Sum {
    GemmPacked& gemm;
    int top, rows;
    template <class R>
    __device__ __forceinline__ void operator()(const R& r, int tile) const {
      constexpr int HALF = PACKED_WARPS / 2;
      const int warp = threadIdx.x / 32;
      const int mine = R::PRODUCTS == 1 ? warp * 16 : warp % HALF * 16 + warp / HALF * 8;
      Sums d = {};
      gemm.template sum<decltype(r.first), R::PRODUCTS>(d, warp);
      finish_across(r, d, top, left<R>(tile) + mine, rows);
    }
  };

  // Calls `make(first row)(result, tile)` for each tile of this block.
  template <class Make, class... Results>
  static __device__ __forceinline__ void walk(int rows, Make make, const Results&... results) {
    const int columns = (results.template tiles<WIDTH>() + ...);
    const GemmOrder order{(rows + ROWS - 1) / ROWS, columns, 2048 / ROWS};
    order.template walk<BLOCKS>([&](int row, int column) {
      visit_result<WIDTH>(column, make(row * ROWS), results...);
    });
  }

  template <class... Results>
  __device__ __forceinline__ void produce(const TensorMap& x, int rows, const Results&... results) {
    const int warp = threadIdx.x / 32 - PACKED_WARPS;
    if (warp == 0) walk(rows, [&](int) { return CopyWeights{*this}; }, results...);
    if (warp == 1 && threadIdx.x % 32 == 0)
      walk(rows, [&](int top) { return CopyX{*this, x, top}; }, results...);
  }

  template <class... Results>
  __device__ __forceinline__ void consume(int rows, const Results&... results) {
    walk(rows, [&](int top) { return Sum{*this, top, rows}; }, results...);
  }
};

// One launch: GEMM_THREADS threads, clusters of BLOCKS (1 or 2) blocks, as many blocks as there are
// multiprocessors or fewer, packed_shared bytes of `shared`, which starts at a multiple of 1024
// bytes. ROWS is 128 or 256.
template <class Tiles, int ROWS, int BLOCKS, class... Results>
__device__ __forceinline__ void gemm_packed(u8* shared, const TensorMap& x, int rows,
                                            const Results&... results) {
  constexpr int STAGES = packed_stages<Tiles, ROWS, decltype(results.first)...>;
  constexpr int BYTES = packed_bytes<Tiles, ROWS, decltype(results.first)...>;
  __shared__ Barrier barriers[2 * STAGES];
  GemmPacked<Tiles, ROWS, BLOCKS, BYTES, STAGES> g{shared, barriers, barriers + STAGES};
  // Weights and x fill a stage, and all warps of all blocks read it.
  constexpr int READERS = PACKED_WARPS * (BLOCKS == 1 ? ARRIVING_LANES : BLOCKS);
  start_ring<BLOCKS, STAGES>(g.full, 2, g.empty, READERS);
  wait_for_earlier();
  if (threadIdx.x >= 32 * PACKED_WARPS) {
    give_registers<40>();
    g.produce(x, rows, results...);
  } else {
    take_registers<232>();
    g.consume(rows, results...);
  }
  __syncwarp();
  Cluster<BLOCKS>::meet();
}
