// Results of a product: what stands at the end of a kernel's sums.
//
// A launch has one or several results, each with weights [N, K], a tail and an output of its own
// (q, k and v of the same x). A result has one product, or two whose columns a tail combines (gate
// and up): then a tile of WIDTH columns has WIDTH / 2 of each. `float2 tail(row, col, p0, p1)` gets
// columns col and col + 1 of the first product and of the second (or of the first again), and is
// called for places within [rows, N] only. Its values are stored as f32, bf16 or f16 to rows of
// STRIDE, at column FIRST of a result, or to where `Placed` puts them. With an odd N, the last
// column's neighbour is computed and not stored.
#pragma once
#include "fragments.cuh"
#include "placed.cuh"

// What all results have that differ in addresses and extents alone is computed by the same code.
template <int PRODUCTS_, int ALIGN_, class Weights, class Y, class Tail>
struct Result {
  static constexpr int PRODUCTS = PRODUCTS_, ALIGN = ALIGN_;  // as align_of
  using Out = ElementOf<Y>;
  Weights first, second;  // of a tile's left half and of its right half
  Y y;
  Tail tail;
  int n, stride;

  // Tiles side by side.
  template <int WIDTH>
  __device__ __forceinline__ int tiles() const {
    return (n * PRODUCTS + WIDTH - 1) / WIDTH;
  }
};

// What divides all of these, of 8 and 2.
template <int N, int STRIDE, int FIRST>
constexpr int align_of = N % 8 + STRIDE % 8 + FIRST % 8 == 0   ? 8
                         : N % 2 + STRIDE % 2 + FIRST % 2 == 0 ? 2
                                                               : 1;

template <int N, int STRIDE, int FIRST = 0, class Weights, class Y, class Tail>
__device__ __forceinline__ Result<1, align_of<N, STRIDE, FIRST>, Weights, Y, Tail> result(
    Weights w, Y y, Tail tail) {
  return {w, w, y, tail, N, STRIDE};
}

template <int N, int STRIDE, int FIRST = 0, class Weights, class Y, class Tail>
__device__ __forceinline__ Result<2, align_of<N, STRIDE, FIRST>, Weights, Y, Tail> result(
    Weights w0, Weights w1, Y y, Tail tail) {
  return {w0, w1, y, tail, N, STRIDE};
}

// Calls `visit(result, tile)` for the result that has column of tiles `tile`, counted from its
// first. There is one call for results of the same type that follow each other.
template <int WIDTH, class Visit, class R>
__device__ __forceinline__ void visit_result(int tile, Visit visit, R r) {
  visit(r, tile);
}
template <int WIDTH, class Visit, class R, class... Rest>
__device__ __forceinline__ void visit_result(int tile, Visit visit, R r, const R& next,
                                             const Rest&... rest) {
  const int tiles = r.template tiles<WIDTH>();
  if (tile >= tiles) tile -= tiles, r = next;
  visit_result<WIDTH>(tile, visit, r, rest...);
}
template <int WIDTH, class Visit, class R, class Next, class... Rest>
__device__ __forceinline__ void visit_result(int tile, Visit visit, R r, const Next& next,
                                             const Rest&... rest) {
  const int tiles = r.template tiles<WIDTH>();
  if (tile < tiles) return visit(r, tile);
  visit_result<WIDTH>(tile - tiles, visit, next, rest...);
}

// Sends what a quad of threads holds, column pairs (2 t, 2 t + 1) of four groups of eight in thread
// t, to where thread t holds the eight columns of group t.
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

template <class Out>
__device__ __forceinline__ void store_pair(Out* y, float2 v) {
  *(u32*)y = pair_of(y, v.x, v.y);
}
template <>
__device__ __forceinline__ void store_pair(float* y, float2 v) {
  *(float2*)y = v;
}

// Stores a pair of values at column `c` of a row, or the first of them where that is the last one.
template <class R, class Out>
__device__ __forceinline__ void store_at(const R& r, Out* y, int c, float2 v) {
  if constexpr (R::ALIGN > 1) {
    store_pair(y + c, v);
  } else {
    y[c] = from_float<Out>(v.x);
    if (c + 1 < r.n) y[c + 1] = from_float<Out>(v.y);
  }
}

// Stores four pairs of values of one row: pair j stands at column 8 j + 2 t of the 32 from `col`
// on.
template <class R>
__device__ __forceinline__ void store_columns(const R& r, float2 (&v)[4], int row, int col,
                                              int rows) {
  using Out = typename R::Out;
  Out* y = row < rows ? row_of(r.y, row, r.stride) : nullptr;
  const int t = threadIdx.x % 4;
  if constexpr (sizeof(Out) == 2 && R::ALIGN == 8) {
    u32 bits[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) bits[j] = pair_of(y, v[j].x, v[j].y);
    quad_transpose(bits);
    if (row < rows && col + 8 * t < r.n) {
      *(uint4*)(y + col + 8 * t) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = col + 8 * j + 2 * t;
      if (row >= rows || c >= r.n) continue;
      store_at(r, y, c, v[j]);
    }
  }
}

// The tails of sums as matrix units hold them: d[4 j + 2 h + e] is at row `row` + 8 h, column
// `left` + 8 j + 2 (lane % 4) + e; the second product's follow the first's. All tails are computed
// before anything is stored, so that what they read is fetched at once.
template <class R, int SUMS>
__device__ __forceinline__ void finish(const R& r, float (&d)[SUMS], int row, int left, int rows) {
  constexpr int EACH = SUMS / R::PRODUCTS, SECOND = SUMS - EACH;
  const int first = left + threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < EACH; i += 2) {
    const int at = row + i / 2 % 2 * 8, col = first + i / 4 * 8;
    if (at >= rows || col >= r.n) continue;
    const float2 v =
        r.tail(at, col, make_float2(d[i], d[i + 1]), make_float2(d[i + SECOND], d[i + SECOND + 1]));
    d[i] = v.x, d[i + 1] = v.y;
  }
#pragma unroll
  for (int i = 0; i < EACH; i += 16) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float2 v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        v[j] = make_float2(d[i + 4 * j + 2 * h], d[i + 4 * j + 2 * h + 1]);
      store_columns(r, v, row + 8 * h, left + i * 2, rows);
    }
  }
}

// Has rows and columns of an 8 by 8 block of sums change places: a thread has row lane / 4 and two
// columns from 2 (lane % 4) on, before and after.
__device__ __forceinline__ float2 transposed(float a, float b) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const float got = __shfl_xor_sync(~0u, g % 2 ? a : b, 4);
  const int from = (2 * t + g % 2) * 4 + g / 2;
  return {__shfl_sync(~0u, g % 2 ? got : a, from), __shfl_sync(~0u, g % 2 ? b : got, from)};
}

// Stores four pairs of values of eight columns from `col` on: pair j stands at row `row` + 8 j of
// this thread, at column 2 t.
template <class R>
__device__ __forceinline__ void store_rows(const R& r, float2 (&v)[4], int row, int col, int rows) {
  using Out = typename R::Out;
  const int t = threadIdx.x % 4;
  if constexpr (sizeof(Out) == 2 && R::ALIGN == 8) {
    u32 bits[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) bits[j] = pair_of((const Out*)nullptr, v[j].x, v[j].y);
    quad_transpose(bits);
    if (row + 8 * t < rows && col < r.n)
      *(uint4*)(row_of(r.y, row + 8 * t, r.stride) + col) =
          make_uint4(bits[0], bits[1], bits[2], bits[3]);
  } else {
    const int c = col + 2 * t;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (row + 8 * j >= rows || c >= r.n) continue;
      Out* y = row_of(r.y, row + 8 * j, r.stride);
      store_at(r, y, c, v[j]);
    }
  }
}

// The tails of sums whose rows and columns have changed places: d[4 j + 2 h + e] is at row `top` +
// 8 j + 2 (lane % 4) + e, column `left` + lane / 4, of one product 8 h further, or of the second of
// two if h is 1. N is even. What so many tails read is fetched at once; more than that would find no
// room in registers.
template <class R, int SUMS>
__device__ __forceinline__ void finish_across(const R& r, float (&d)[SUMS], int top, int left,
                                              int rows) {
  constexpr int HALVES = 3 - R::PRODUCTS, AT_ONCE = 64;
  const int row = top + threadIdx.x % 32 / 4, col = left + threadIdx.x % 4 * 2;
#pragma unroll
  for (int first = 0; first < SUMS; first += AT_ONCE) {
#pragma unroll
    for (int i = first; i < first + AT_ONCE; i += 4) {
      float2 v[2] = {transposed(d[i], d[i + 1]), transposed(d[i + 2], d[i + 3])};
#pragma unroll
      for (int h = 0; h < HALVES; ++h)
        v[h] = r.tail(min(row + 2 * i, rows - 1), min(col + 8 * h, r.n - 2), v[h],
                      v[R::PRODUCTS == 2 ? 1 : h]);
      d[i] = v[0].x, d[i + 1] = v[0].y, d[i + 2] = v[1].x, d[i + 3] = v[1].y;
    }
#pragma unroll
    for (int i = first; i < first + AT_ONCE; i += 16) {
#pragma unroll
      for (int h = 0; h < HALVES; ++h) {
        float2 v[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          v[j] = make_float2(d[i + 4 * j + 2 * h], d[i + 4 * j + 2 * h + 1]);
        store_rows(r, v, row + 2 * i, left + 8 * h, rows);
      }
    }
  }
}
