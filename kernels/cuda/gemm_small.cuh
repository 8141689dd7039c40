// Products of many rows on every architecture: y[m, n] = tail(m, n, sum over k of x[m, k] w[n, k]),
// with f32 sums. For where gemm.cuh cannot go: other chips, f16, odd columns, x in f32.
//
// x [rows, K] is f32, bf16 or f16, and is rounded to the type of the weights; weights [N, K] are
// bf16 or f16. K is a multiple of 8. A block of 128 threads computes 64 rows and 64 columns, or 32
// columns of each of two products, 32 of K at a time: while a step is multiplied by `mma.sync` out
// of shared memory, 16 rows a warp, registers take the next. Results are those of results.cuh.
#pragma once
#include "results.cuh"

constexpr int SMALL_TILE = 64, SMALL_DEPTH = 32, SMALL_THREADS = 128;

// Rows in shared memory stand 80 bytes apart, so that eight of them are in different banks.
constexpr int SMALL_STRIDE = SMALL_DEPTH + 8;

// Half a tile, 32 rows of a matrix of K columns, on its way to shared memory: a thread has eight
// numbers of it. Rows beyond `rows` are zeros.
template <class T, int K, class From>
__device__ __forceinline__ uint4 small_load(const From* from, int top, int rows, int k) {
  const int row = top + threadIdx.x / 4, at = k + threadIdx.x % 4 * 8;
  if (row >= rows || at >= K) return make_uint4(0, 0, 0, 0);
  return eight_of((const T*)nullptr, from + (size_t)row * K + at);
}

template <class T>
__device__ __forceinline__ void small_store(T* to, const uint4 (&halves)[2]) {
  T* mine = to + threadIdx.x / 4 * SMALL_STRIDE + threadIdx.x % 4 * 8;
  *(uint4*)mine = halves[0];
  *(uint4*)(mine + 32 * SMALL_STRIDE) = halves[1];
}

// d += a b for a warp's 16 rows and all 64 columns, 16 of K.
template <class T>
__device__ __forceinline__ void small_step(float (&d)[32], const T* a, const T* b) {
  const int lane = threadIdx.x % 32, row = lane % 16 * SMALL_STRIDE + lane / 16 * 8;
  u32 left[4];
  load_matrices(left, a + row);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    u32 right[4];
    load_matrices(right, b + i * 16 * SMALL_STRIDE + row);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const u32 columns[2] = {right[j], right[j + 2]};
      mma(b, *(float (*)[4]) & d[8 * i + 4 * j], left, columns);
    }
  }
}

template <class T, int K, class X, class R>
__device__ __forceinline__ void small_block(const X* x, int rows, const R& r, int tile) {
  __shared__ __align__(16) T shared[2][SMALL_TILE * SMALL_STRIDE];
  const int top = blockIdx.y * SMALL_TILE, left = tile * (SMALL_TILE / R::PRODUCTS);
  const int right = R::PRODUCTS == 1 ? left + 32 : left, mine = threadIdx.x / 32 * 16;
  float d[32] = {};
  uint4 a[2], b[2];
  const auto load = [&](int k) {
    a[0] = small_load<T, K>(x, top, rows, k);
    a[1] = small_load<T, K>(x, top + 32, rows, k);
    b[0] = small_load<T, K>(r.first, left, r.n, k);
    b[1] = small_load<T, K>(r.second, right, r.n, k);
  };
  load(0);
  for (int k = 0; k < K; k += SMALL_DEPTH) {
    __syncthreads();
    small_store(shared[0], a);
    small_store(shared[1], b);
    __syncthreads();
    load(k + SMALL_DEPTH);
#pragma unroll
    for (int i = 0; i < SMALL_DEPTH; i += 16) {
      small_step(d, shared[0] + mine * SMALL_STRIDE + i, shared[1] + i);
    }
  }
  finish(r, d, top + mine + threadIdx.x % 32 / 4, left, rows);
}

template <class T, int K, class X>
struct SmallBlock {
  const X* x;
  int rows;
  template <class R>
  __device__ __forceinline__ void operator()(const R& r, int tile) const {
    small_block<T, K>(x, rows, r, tile);
  }
};

// One launch: SMALL_THREADS threads; along x a block for each tile of results, along y one for
// each SMALL_TILE rows. T is the type of the weights.
template <class T, int K, class X, class... Results>
__device__ __forceinline__ void gemm_small(const X* x, int rows, const Results&... results) {
  wait_for_earlier();
  visit_result<SMALL_TILE>(blockIdx.x, SmallBlock<T, K, X>{x, rows}, results...);
}
