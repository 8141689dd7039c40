// The recurrence of Mamba-2 over many positions: h = exp(dt a) h + dt x b and y = h c, from a state h to
// the one after the last position.
//
// x [S, heads, D], dt and a [heads] in f32, b and c [S, groups, N]; x, b and c are f32, bf16 or f16 and
// may be parts of wider rows (strides X_ROW, B_ROW, C_ROW in numbers); a group is shared by J heads.
// y [S, heads, D] is f32 or bf16; the state [heads, D, N] is f32. D and N are multiples of 8.
//
// A block of eight warps has one head and walks over chunks of SSD_CHUNK positions. With s the sums of
// dt a within a chunk, y[i] = sum over j <= i of (c[i] b[j]) exp(s[i] - s[j]) dt[j] x[j] + exp(s[i]) h c[i],
// and the state decays by exp(s of the last) and takes in exp(s of the last - s[j]) dt[j] x[j] b[j]: four
// products for `mma.sync` with operands in bf16 and sums in f32. The state stays in registers, columns
// split over the warps. The next chunk is copied meanwhile.
#pragma once
#include "fragments.cuh"

constexpr int SSD_CHUNK = 64, SSD_THREADS = 256;

template <int W>
constexpr int ssd_padded = (W + 15) / 16 * 16;

// Tiles in shared memory have rows of 16 bytes more, against bank conflicts.
template <int W>
constexpr int ssd_stride = ssd_padded<W> + 8;

template <class T, int D, int N>
struct SsdShared {
  static constexpr int Q = SSD_CHUNK;
  bf16 b[Q * ssd_stride<N>], c[Q * ssd_stride<N>], x[Q * ssd_stride<D>], weighted[Q * ssd_stride<D>];
  bf16 state[ssd_padded<D> * ssd_stride<N>], mixed[Q * ssd_stride<Q>];
  T next_x[Q * D], next_b[Q * N], next_c[Q * N];  // as they are in memory
  float sums[Q], dt[Q];
};

// The rows of a chunk of W numbers, ROW apart; beyond the last row it is copied again.
template <int W, int ROW, class T>
__device__ __forceinline__ void ssd_copy(T* to, const T* from, int first, int rows) {
  constexpr int EACH = 16 / sizeof(T), WORDS = W / EACH;
  for (int i = threadIdx.x; i < SSD_CHUNK * WORDS; i += SSD_THREADS) {
    const size_t row = min(first + i / WORDS, rows - 1);
    copy<16>(to + i * EACH, from + row * ROW + i % WORDS * EACH);
  }
}

// Puts rows as bf16, padded by zeros.
template <int W, class T>
__device__ __forceinline__ void ssd_convert(bf16* to, const T* from) {
  constexpr int WORDS = ssd_padded<W> / 8;
  for (int i = threadIdx.x; i < SSD_CHUNK * WORDS; i += SSD_THREADS) {
    const int row = i / WORDS, column = i % WORDS * 8;
    const uint4 v = column < W ? eight_of(to, from + row * W + column) : make_uint4(0, 0, 0, 0);
    *(uint4*)(to + row * ssd_stride<W> + column) = v;
  }
}

// d += a b, 16 x 16 out of 16 x 16 by 16 x 16; a row-major, b as `right` holds it: first eight columns in
// words 0 and SECOND.
template <int SECOND>
__device__ __forceinline__ void ssd_multiply(float (&d)[2][4], const u32 (&left)[4], const u32 (&right)[4]) {
  const u32 low[2] = {right[0], right[SECOND]}, high[2] = {right[3 - SECOND], right[3]};
  mma_bf16(d[0], left, low);
  mma_bf16(d[1], left, high);
}

template <class T, int D, int N>
struct SsdBlock {
  using Shared = SsdShared<T, D, N>;
  static constexpr int Q = SSD_CHUNK, DEEP = ssd_padded<N> / 16, WIDE = ssd_padded<D> / 16;
  static constexpr int HELD = (DEEP + 7) / 8;  // groups of 16 columns of the state that a warp has
  static constexpr int N_ROW = ssd_stride<N>, D_ROW = ssd_stride<D>, Q_ROW = ssd_stride<Q>;
  Shared& shared;
  float state[HELD][WIDE][2][4];

  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ int warp() { return threadIdx.x / 32; }

  // Where a lane points load_matrices at for 16 x 16 numbers: the upper left quarter, the lower left, the
  // upper right, the lower right.
  static __device__ __forceinline__ int down(int row) { return lane() % 16 * row + lane() / 16 * 8; }
  // The same with the upper right quarter second.
  static __device__ __forceinline__ int across(int row) {
    return (lane() / 16 * 8 + lane() % 8) * row + lane() / 8 % 2 * 8;
  }

  // Calls `visit(place in the state, value)` for what this thread holds.
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) {
#pragma unroll
    for (int g = 0; g < HELD; ++g) {
#pragma unroll
      for (int i = 0; i < WIDE * 8; ++i) {
        const int row = i / 8 * 16 + lane() / 4 + i / 2 % 2 * 8;
        const int column = (warp() + 8 * g) * 16 + i / 4 % 2 * 8 + lane() % 4 * 2 + i % 2;
        visit(row, column, state[g][i / 8][i / 4 % 2][i % 4]);
      }
    }
  }

  __device__ __forceinline__ void load_state(const float* from) {
    each([&](int d, int n, float& v) { v = d < D && n < N ? from[d * N + n] : 0; });
  }

  __device__ __forceinline__ void store_state(float* to) {
    each([&](int d, int n, float& v) {
      if (d < D && n < N) to[d * N + n] = v;
    });
  }

  // The state as an operand.
  __device__ __forceinline__ void share_state() {
    each([&](int d, int n, float& v) {
      if (n < DEEP * 16) shared.state[d * N_ROW + n] = from_float<bf16>(v);
    });
  }

  // One warp's: sums of dt a within the chunk. Positions beyond the last have a dt of 0: nothing happens.
  __device__ __forceinline__ void sum(const float* dt, int stride, float a, int first, int rows) {
    float low = first + 2 * lane() < rows ? dt[(size_t)(first + 2 * lane()) * stride] : 0;
    float high = first + 2 * lane() + 1 < rows ? dt[(size_t)(first + 2 * lane() + 1) * stride] : 0;
    float total = (low + high) * a;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float before = __shfl_up_sync(ALL_LANES, total, step);
      if (lane() >= step) total += before;
    }
    shared.dt[2 * lane()] = low, shared.dt[2 * lane() + 1] = high;
    shared.sums[2 * lane()] = total - high * a, shared.sums[2 * lane() + 1] = total;
  }

  // Tiles of what has been copied.
  __device__ __forceinline__ void convert() {
    ssd_convert<N>(shared.b, shared.next_b);
    ssd_convert<N>(shared.c, shared.next_c);
    ssd_convert<D>(shared.x, shared.next_x);
    constexpr int WORDS = ssd_padded<D> / 2;
    for (int i = threadIdx.x; i < Q * WORDS; i += SSD_THREADS) {
      const int row = i / WORDS, d = i % WORDS * 2;
      const float w = __expf(shared.sums[Q - 1] - shared.sums[row]) * shared.dt[row];
      const T* from = shared.next_x + row * D + d;
      const u32 v = d < D ? bf16_pair(to_float(from[0]) * w, to_float(from[1]) * w) : 0;
      *(u32*)(shared.weighted + row * D_ROW + d) = v;
    }
  }

  // What position j gives to position i, as an operand: warps split 64 x 64 in 16 x 32.
  __device__ __forceinline__ void mix() {
    const int top = warp() % 4 * 16, left = warp() / 4 * 32;
    float d[2][2][4] = {};
    if (left < top + 16) {
#pragma unroll
      for (int k = 0; k < DEEP; ++k) {
        u32 a[4], b[4];
        load_matrices(a, shared.c + top * N_ROW + down(N_ROW) + 16 * k);
#pragma unroll
        for (int g = 0; g < 2; ++g) {
          load_matrices(b, shared.b + (left + 16 * g) * N_ROW + down(N_ROW) + 16 * k);
          ssd_multiply<2>(d[g], a, b);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
      const int row = top + lane() / 4 + i / 2 % 2 * 8, column = left + i / 4 * 8 + lane() % 4 * 2;
      const auto weight = [&](int j) {
        return j <= row ? __expf(shared.sums[row] - shared.sums[j]) * shared.dt[j] : 0.f;
      };
      const float* v = &d[i / 8][i / 4 % 2][i % 4];
      *(u32*)(shared.mixed + row * Q_ROW + column) = bf16_pair(v[0] * weight(column), v[1] * weight(column + 1));
    }
  }

  // Results of the chunk: a warp has 16 rows, and every other group of 16 columns.
  template <class Y>
  __device__ __forceinline__ void results(Y* y, int stride, int count) {
    constexpr int HALF = (WIDE + 1) / 2;
    const int top = warp() % 4 * 16, row = top + lane() / 4;
    float d[HALF][2][4] = {};
    u32 a[4], b[4];
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
      load_matrices(a, shared.c + top * N_ROW + down(N_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < HALF; ++g) {
        if (warp() / 4 + 2 * g >= WIDE) continue;
        load_matrices(b, shared.state + (warp() / 4 + 2 * g) * 16 * N_ROW + down(N_ROW) + 16 * k);
        ssd_multiply<2>(d[g], a, b);
      }
    }
    const float decay[2] = {__expf(shared.sums[row]), __expf(shared.sums[row + 8])};
#pragma unroll
    for (int i = 0; i < HALF * 8; ++i) d[i / 8][i / 4 % 2][i % 4] *= decay[i / 2 % 2];
    for (int k = 0; k <= top / 16; ++k) {
      load_matrices(a, shared.mixed + top * Q_ROW + down(Q_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < HALF; ++g) {
        if (warp() / 4 + 2 * g >= WIDE) continue;
        load_matrices_transposed(b, shared.x + 16 * k * D_ROW + down(D_ROW) + (warp() / 4 + 2 * g) * 16);
        ssd_multiply<1>(d[g], a, b);
      }
    }
#pragma unroll
    for (int i = 0; i < HALF * 8; i += 2) {
      const int at = row + i / 2 % 2 * 8;
      const int column = (warp() / 4 + i / 8 * 2) * 16 + i / 4 % 2 * 8 + lane() % 4 * 2;
      const float* v = &d[i / 8][i / 4 % 2][i % 4];
      if (at >= count || column >= D) continue;
      y[(size_t)at * stride + column] = from_float<Y>(v[0]);
      y[(size_t)at * stride + column + 1] = from_float<Y>(v[1]);
    }
  }

  // The state after the chunk.
  __device__ __forceinline__ void advance() {
    const float decay = __expf(shared.sums[Q - 1]);
    each([&](int, int, float& v) { v *= decay; });
#pragma unroll
    for (int k = 0; k < Q / 16; ++k) {
#pragma unroll
      for (int g = 0; g < HELD; ++g) {
        if (warp() + 8 * g >= DEEP) continue;
        u32 a[4], b[4];
        load_matrices_transposed(b, shared.b + 16 * k * N_ROW + down(N_ROW) + (warp() + 8 * g) * 16);
#pragma unroll
        for (int i = 0; i < WIDE; ++i) {
          load_matrices_transposed(a, shared.weighted + 16 * k * D_ROW + across(D_ROW) + 16 * i);
          ssd_multiply<1>(state[g][i], a, b);
        }
      }
    }
  }
};

// One launch: a block of SSD_THREADS threads for each head, sizeof(SsdShared<T, D, N>) bytes of `shared`.
template <int GROUPS, int J, int D, int N, int X_ROW, int B_ROW, int C_ROW, class T, class Y>
__device__ __forceinline__ void ssd_prompt(void* shared, const T* x, const float* dt, const float* a, const T* b,
                                           const T* c, float* state, Y* y, int rows) {
  constexpr int HEADS = GROUPS * J;
  const int head = blockIdx.x, group = head / J;
  SsdShared<T, D, N>& s = *(SsdShared<T, D, N>*)shared;
  SsdBlock<T, D, N> block{s};
  wait_for_earlier();
  const auto load = [&](int first) {
    ssd_copy<D, X_ROW>(s.next_x, x + head * D, first, rows);
    ssd_copy<N, B_ROW>(s.next_b, b + group * N, first, rows);
    ssd_copy<N, C_ROW>(s.next_c, c + group * N, first, rows);
    copies_end();
  };
  load(0);
  block.load_state(state + (size_t)head * D * N);
  for (int first = 0; first < rows; first += SSD_CHUNK) {
    if (threadIdx.x < 32) block.sum(dt + head, HEADS, a[head], first, rows);
    copies_wait<0>();
    __syncthreads();
    block.share_state();
    block.convert();
    __syncthreads();
    if (first + SSD_CHUNK < rows) load(first + SSD_CHUNK);
    block.mix();
    __syncthreads();
    block.results(y + ((size_t)first * HEADS + head) * D, HEADS * D, rows - first);
    block.advance();
    __syncthreads();
  }
  block.store_state(state + (size_t)head * D * N);
}
