// The recurrence of Mamba-2 over many positions: h = exp(dt a) h + dt x b and y = h c, from a state
// h to the one after the last position.
//
// x [S, heads, D], dt and a [heads] in f32, b and c [S, groups, N]; x, b and c are f32, bf16 or f16
// and may be parts of wider rows (strides X_ROW, B_ROW, C_ROW in numbers); a group is shared by J
// heads. y [S, heads, D] is f32 or bf16; the state [heads, D, N] is f32. D and N are multiples of
// 8.
//
// A block of sixteen warps has one head and walks over chunks of SSD_CHUNK positions. With s the
// sums of dt a within a chunk, y[i] = sum over j <= i of (c[i] b[j]) exp(s[i] - s[j]) dt[j] x[j] +
// exp(s[i]) h c[i], and the state decays by exp(s of the last) and takes in exp(s of the last -
// s[j]) dt[j] x[j] b[j]: four products for `mma.sync` with operands in bf16 and sums in f32. The
// state stays in registers, split over the warps. The next chunk is copied meanwhile. (s is kept
// times the logarithm of e to the base 2.)
#pragma once
#include "results.cuh"

constexpr int SSD_CHUNK = 64, SSD_THREADS = 512;

template <int W>
constexpr int ssd_padded = (W + 15) / 16 * 16;

// Tiles in shared memory have rows of 16 bytes more, against bank conflicts.
template <int W>
constexpr int ssd_stride = ssd_padded<W> + 8;

template <class T, int D, int N>
struct SsdShared {
  static constexpr int Q = SSD_CHUNK;
  bf16 b[Q * ssd_stride<N>], c[Q * ssd_stride<N>], x[Q * ssd_stride<D>];
  bf16 state[ssd_padded<D> * ssd_stride<N>], mixed[Q * ssd_stride<Q>];
  T next_x[Q * D], next_b[Q * N], next_c[Q * N];  // as they are in memory
  float sums[Q], dt[Q], late[Q];  // late: what a position gives to the state after the chunk
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

// d += a b, 16 x 16 out of 16 x 16 by 16 x 16; a row-major, b as `right` holds it: first eight
// columns in words 0 and SECOND.
template <int SECOND>
__device__ __forceinline__ void ssd_multiply(float (&d)[2][4], const u32 (&left)[4],
                                             const u32 (&right)[4]) {
  const u32 low[2] = {right[0], right[SECOND]}, high[2] = {right[3 - SECOND], right[3]};
  mma_bf16(d[0], left, low);
  mma_bf16(d[1], left, high);
}

template <class T, int D, int N>
struct SsdBlock {
  using Shared = SsdShared<T, D, N>;
  static constexpr int Q = SSD_CHUNK, DEEP = ssd_padded<N> / 16, WIDE = ssd_padded<D> / 16;
  // A warp has every eighth 16 columns of the state and of those every other 16 rows.
  static constexpr int HELD = (DEEP + 7) / 8, TALL = (WIDE + 1) / 2;
  static constexpr int N_ROW = ssd_stride<N>, D_ROW = ssd_stride<D>, Q_ROW = ssd_stride<Q>;
  Shared& shared;
  float state[HELD][TALL][2][4];
  float low, high;  // two of the next chunk's dt, in the first warp

  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ int warp() { return threadIdx.x / 32; }

  // Where a lane points load_matrices at for 16 x 16 numbers: the upper left quarter, the lower
  // left, the upper right, the lower right.
  static __device__ __forceinline__ int down(int row) {
    return lane() % 16 * row + lane() / 16 * 8;
  }
  // The same with the upper right quarter second.
  static __device__ __forceinline__ int across(int row) {
    return (lane() / 16 * 8 + lane() % 8) * row + lane() / 8 % 2 * 8;
  }

  // Calls `visit(row, column, values)` for pairs of columns of the state that this thread has.
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) {
#pragma unroll
    for (int g = 0; g < HELD; ++g) {
#pragma unroll
      for (int i = 0; i < TALL * 4; ++i) {
        const int row = (i / 4 * 2 + warp() / 8) * 16 + lane() / 4 + i % 2 * 8;
        const int column = (warp() % 8 + 8 * g) * 16 + i / 2 % 2 * 8 + lane() % 4 * 2;
        visit(row, column, &state[g][i / 4][i / 2 % 2][i % 2 * 2]);
      }
    }
  }

  __device__ __forceinline__ void load_state(const float* from) {
    each([&](int d, int n, float* v) {
      const float2 pair = d < D && n < N ? *(const float2*)(from + d * N + n) : make_float2(0, 0);
      v[0] = pair.x, v[1] = pair.y;
    });
  }

  __device__ __forceinline__ void store_state(float* to) {
    each([&](int d, int n, float* v) {
      if (d < D && n < N) *(float2*)(to + d * N + n) = make_float2(v[0], v[1]);
    });
  }

  // The state as an operand.
  __device__ __forceinline__ void share_state() {
    each([&](int d, int n, float* v) {
      if (d < WIDE * 16 && n < DEEP * 16)
        *(u32*)(shared.state + d * N_ROW + n) = bf16_pair(v[0], v[1]);
    });
  }

  // Fetches the dt of a chunk. Positions beyond the last have a dt of 0: nothing happens.
  __device__ __forceinline__ void fetch(const float* dt, int stride, int first, int rows) {
    const int at = first + 2 * lane();
    low = at < rows ? dt[(size_t)at * stride] : 0;
    high = at + 1 < rows ? dt[(size_t)(at + 1) * stride] : 0;
  }

  // One warp's: the sums of dt a within the chunk.
  __device__ __forceinline__ void sum(float a) {
    const int i = 2 * lane();
    float total = (low + high) * a;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float before = __shfl_up_sync(ALL_LANES, total, step);
      if (lane() >= step) total += before;
    }
    const float first = total - high * a, last = __shfl_sync(ALL_LANES, total, 31);
    shared.dt[i] = low, shared.dt[i + 1] = high;
    shared.sums[i] = first, shared.sums[i + 1] = total;
    shared.late[i] = power_of_2(last - first) * low,
    shared.late[i + 1] = power_of_2(last - total) * high;
  }

  // Tiles of what has been copied.
  __device__ __forceinline__ void convert() {
    ssd_convert<N>(shared.b, shared.next_b);
    ssd_convert<N>(shared.c, shared.next_c);
    ssd_convert<D>(shared.x, shared.next_x);
  }

  // What position j gives to position i, as an operand: a warp has 16 x 16.
  __device__ __forceinline__ void mix() {
    const int top = warp() % 4 * 16, left = warp() / 4 * 16;
    if (left > top) return;
    float d[2][4] = {};
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
      u32 a[4], b[4];
      load_matrices(a, shared.c + top * N_ROW + down(N_ROW) + 16 * k);
      load_matrices(b, shared.b + left * N_ROW + down(N_ROW) + 16 * k);
      ssd_multiply<2>(d, a, b);
    }
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const int row = top + lane() / 4 + i / 2 % 2 * 8, column = left + i / 4 * 8 + lane() % 4 * 2;
      const float sum = shared.sums[row];
      const auto weight = [&](int j) {
        return j <= row ? power_of_2(sum - shared.sums[j]) * shared.dt[j] : 0.f;
      };
      const float* v = &d[i / 4][i % 4];
      *(u32*)(shared.mixed + row * Q_ROW + column) =
          bf16_pair(v[0] * weight(column), v[1] * weight(column + 1));
    }
  }

  // Results of the chunk: a warp has 16 rows, and every fourth 16 columns.
  template <class Y>
  __device__ __forceinline__ void results(Y* y, int stride, int count) {
    constexpr int GROUPS = (WIDE + 3) / 4;
    const int top = warp() % 4 * 16, row = top + lane() / 4;
    float d[GROUPS][2][4] = {};
    u32 a[4], b[4];
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
      load_matrices(a, shared.c + top * N_ROW + down(N_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) {
        if (warp() / 4 + 4 * g >= WIDE) continue;
        load_matrices(b, shared.state + (warp() / 4 + 4 * g) * 16 * N_ROW + down(N_ROW) + 16 * k);
        ssd_multiply<2>(d[g], a, b);
      }
    }
    const float decay[2] = {power_of_2(shared.sums[row]), power_of_2(shared.sums[row + 8])};
#pragma unroll
    for (int i = 0; i < GROUPS * 8; ++i) d[i / 8][i / 4 % 2][i % 4] *= decay[i / 2 % 2];
    for (int k = 0; k <= top / 16; ++k) {
      load_matrices(a, shared.mixed + top * Q_ROW + down(Q_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) {
        if (warp() / 4 + 4 * g >= WIDE) continue;
        load_matrices_transposed(
            b, shared.x + 16 * k * D_ROW + down(D_ROW) + (warp() / 4 + 4 * g) * 16);
        ssd_multiply<1>(d[g], a, b);
      }
    }
#pragma unroll
    for (int i = 0; i < GROUPS * 8; i += 2) {
      const int at = row + i / 2 % 2 * 8;
      const int column = (warp() / 4 + i / 8 * 4) * 16 + i / 4 % 2 * 8 + lane() % 4 * 2;
      const float* v = &d[i / 8][i / 4 % 2][i % 4];
      if (at >= count || column >= D) continue;
      store_pair(y + (size_t)at * stride + column, make_float2(v[0], v[1]));
    }
  }

  // Four words of b, at positions `at` and the one after and at those eight on, times `late`.
  __device__ __forceinline__ void weigh(u32 (&b)[4], int at) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 w = *(const float2*)(shared.late + at + i % 2 * 8);
      b[i] = bf16_pair(bf16_low(b[i]) * w.x, bf16_high(b[i]) * w.y);
    }
  }

  // The state after the chunk.
  __device__ __forceinline__ void advance() {
    const float decay = power_of_2(shared.sums[Q - 1]);
    each([&](int, int, float* v) { v[0] *= decay, v[1] *= decay; });
#pragma unroll
    for (int k = 0; k < Q / 16; ++k) {
#pragma unroll
      for (int g = 0; g < HELD; ++g) {
        if (warp() % 8 + 8 * g >= DEEP) continue;
        u32 a[4], b[4];
        load_matrices_transposed(
            b, shared.b + 16 * k * N_ROW + down(N_ROW) + (warp() % 8 + 8 * g) * 16);
        weigh(b, 16 * k + lane() % 4 * 2);
#pragma unroll
        for (int i = 0; i < TALL; ++i) {
          const int tile = 2 * i + warp() / 8;
          if (tile >= WIDE) continue;
          load_matrices_transposed(a, shared.x + 16 * k * D_ROW + across(D_ROW) + 16 * tile);
          ssd_multiply<1>(state[g][i], a, b);
        }
      }
    }
  }
};

// One launch: a block of SSD_THREADS threads for each head, sizeof(SsdShared<T, D, N>) bytes of
// `shared`.
template <int GROUPS, int J, int D, int N, int X_ROW, int B_ROW, int C_ROW, class T, class Y>
__device__ __forceinline__ void ssd_prompt(void* shared, const T* x, const float* dt,
                                           const float* a, const T* b, const T* c, float* state,
                                           Y* y, int rows) {
  constexpr int HEADS = GROUPS * J;
  const int head = blockIdx.x, group = head / J;
  SsdShared<T, D, N>& s = *(SsdShared<T, D, N>*)shared;
  SsdBlock<T, D, N> block{s};
  wait_for_earlier();
  const float decay = a[head] * 1.4426950408889634f;
  const auto load = [&](int first) {
    ssd_copy<D, X_ROW>(s.next_x, x + head * D, first, rows);
    ssd_copy<N, B_ROW>(s.next_b, b + group * N, first, rows);
    ssd_copy<N, C_ROW>(s.next_c, c + group * N, first, rows);
    copies_end();
  };
  load(0);
  block.fetch(dt + head, HEADS, 0, rows);
  block.load_state(state + (size_t)head * D * N);
  for (int first = 0; first < rows; first += SSD_CHUNK) {
    if (threadIdx.x < 32) {
      block.sum(decay);
      block.fetch(dt + head, HEADS, first + SSD_CHUNK, rows);
    }
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
