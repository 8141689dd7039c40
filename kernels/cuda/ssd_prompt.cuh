// The recurrence of Mamba-2 over many positions: h = exp(dt a) h + dt x b and y = h c, from a state
// h to the one after the last position.
//
// x [S, heads, D], dt and a [heads] in f32, b and c [S, groups, N]; x, b and c are bf16 and may be
// parts of wider rows (strides X_ROW, B_ROW, C_ROW in numbers); a group is shared by J heads. y [S,
// heads, D] is f32 or bf16; the state [heads, D, N] is f32. D and N are multiples of 8.
//
// A block of sixteen warps has one head and walks over chunks of SSD_CHUNK positions. With s the
// sums of dt a within a chunk, y[i] = sum over j <= i of (c[i] b[j]) exp(s[i] - s[j]) dt[j] x[j] +
// exp(s[i]) h c[i], and the state decays by exp(s of the last) and takes in exp(s of the last -
// s[j]) dt[j] x[j] b[j]: four products for `mma.sync` with operands in bf16 and sums in f32. The
// state stays in registers, split over the warps. While a chunk's results are computed, so is what
// positions of the next one give each other, and the one after that is copied. (s is kept times the
// logarithm of e to the base 2.)
#pragma once
#include "results.cuh"

constexpr int SSD_CHUNK = 64, SSD_THREADS = 512;

template <int W>
constexpr int ssd_padded = (W + 15) / 16 * 16;

// Tiles in shared memory have rows of 16 bytes more, against bank conflicts.
template <int W>
constexpr int ssd_stride = ssd_padded<W> + 8;

// A chunk as it is in memory; with zeros where rows are padded.
template <int D, int N>
struct SsdTile {
  bf16 b[SSD_CHUNK * ssd_stride<N>], c[SSD_CHUNK * ssd_stride<N>], x[SSD_CHUNK * ssd_stride<D>];
};

// What the positions of a chunk give each other, sums of dt a, dt, and what each gives to the state
// after the chunk.
struct SsdMixed {
  static constexpr int Q = SSD_CHUNK;
  bf16 mixed[Q * ssd_stride<Q>];
  float sums[Q], dt[Q], late[Q];
};

// A block before Hopper has less shared memory.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int SSD_STAGES = 2;
#else
constexpr int SSD_STAGES = 3;
#endif

template <int D, int N>
struct SsdShared {
  static constexpr int STAGES = SSD_STAGES < 3 || sizeof(SsdTile<D, N>) > 60 * 1024 ? 2 : 3;
  SsdTile<D, N> tiles[STAGES];
  bf16 state[ssd_padded<D> * ssd_stride<N>];
  SsdMixed chunks[2];
};

// The rows of a chunk of W numbers, ROW apart; beyond the last row it is copied again.
template <int W, int ROW>
__device__ __forceinline__ void ssd_copy(bf16* to, const bf16* from, int first, int rows) {
  constexpr int WORDS = ssd_padded<W> / 8;
  for (int i = threadIdx.x; i < SSD_CHUNK * WORDS; i += SSD_THREADS) {
    const size_t row = min(first + i / WORDS, rows - 1);
    const int column = i % WORDS * 8;
    bf16* word = to + i / WORDS * ssd_stride<W> + column;
    if (column < W) copy<16>(word, from + row * ROW + column);
    else *(uint4*)word = make_uint4(0, 0, 0, 0);
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

template <int D, int N>
struct SsdBlock {
  using Shared = SsdShared<D, N>;
  using Tile = SsdTile<D, N>;
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
  __device__ __forceinline__ void sum(SsdMixed& chunk, float a) {
    const int i = 2 * lane();
    float total = (low + high) * a;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float before = __shfl_up_sync(ALL_LANES, total, step);
      if (lane() >= step) total += before;
    }
    const float first = total - high * a, last = __shfl_sync(ALL_LANES, total, 31);
    chunk.dt[i] = low, chunk.dt[i + 1] = high;
    chunk.sums[i] = first, chunk.sums[i + 1] = total;
    chunk.late[i] = power_of_2(last - first) * low;
    chunk.late[i + 1] = power_of_2(last - total) * high;
  }

  // What position j gives to position i, as an operand: a warp has 16 x 16.
  __device__ __forceinline__ void mix(const Tile& tile, SsdMixed& chunk) {
    const int top = warp() % 4 * 16, left = warp() / 4 * 16;
    if (left > top) return;
    float d[2][4] = {};
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
      u32 a[4], b[4];
      load_matrices(a, tile.c + top * N_ROW + down(N_ROW) + 16 * k);
      load_matrices(b, tile.b + left * N_ROW + down(N_ROW) + 16 * k);
      ssd_multiply<2>(d, a, b);
    }
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const int row = top + lane() / 4 + i / 2 % 2 * 8, column = left + i / 4 * 8 + lane() % 4 * 2;
      const float sum = chunk.sums[row];
      const auto weight = [&](int j) {
        return j <= row ? power_of_2(sum - chunk.sums[j]) * chunk.dt[j] : 0.f;
      };
      const float* v = &d[i / 4][i % 4];
      *(u32*)(chunk.mixed + row * Q_ROW + column) =
          bf16_pair(v[0] * weight(column), v[1] * weight(column + 1));
    }
  }

  // Results of the chunk: a warp has 16 rows, and every fourth 16 columns.
  template <class Y>
  __device__ __forceinline__ void results(const Tile& tile, const SsdMixed& chunk, Y* y, int stride,
                                          int count) {
    constexpr int GROUPS = (WIDE + 3) / 4;
    const int top = warp() % 4 * 16, row = top + lane() / 4;
    float d[GROUPS][2][4] = {};
    u32 a[4], b[4];
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
      load_matrices(a, tile.c + top * N_ROW + down(N_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) {
        if (warp() / 4 + 4 * g >= WIDE) continue;
        load_matrices(b, shared.state + (warp() / 4 + 4 * g) * 16 * N_ROW + down(N_ROW) + 16 * k);
        ssd_multiply<2>(d[g], a, b);
      }
    }
    const float decay[2] = {power_of_2(chunk.sums[row]), power_of_2(chunk.sums[row + 8])};
#pragma unroll
    for (int i = 0; i < GROUPS * 8; ++i) d[i / 8][i / 4 % 2][i % 4] *= decay[i / 2 % 2];
    for (int k = 0; k <= top / 16; ++k) {
      load_matrices(a, chunk.mixed + top * Q_ROW + down(Q_ROW) + 16 * k);
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) {
        if (warp() / 4 + 4 * g >= WIDE) continue;
        load_matrices_transposed(
            b, tile.x + 16 * k * D_ROW + down(D_ROW) + (warp() / 4 + 4 * g) * 16);
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

  // Four words of b, at two positions after each other and at those eight on, times `late`.
  __device__ __forceinline__ void weigh(u32 (&b)[4], const float* late) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 w = *(const float2*)(late + i % 2 * 8);
      b[i] = bf16_pair(bf16_low(b[i]) * w.x, bf16_high(b[i]) * w.y);
    }
  }

  // The state after the chunk.
  __device__ __forceinline__ void advance(const Tile& tile, const SsdMixed& chunk) {
    const float decay = power_of_2(chunk.sums[Q - 1]);
    each([&](int, int, float* v) { v[0] *= decay, v[1] *= decay; });
#pragma unroll
    for (int k = 0; k < Q / 16; ++k) {
#pragma unroll
      for (int g = 0; g < HELD; ++g) {
        if (warp() % 8 + 8 * g >= DEEP) continue;
        u32 a[4], b[4];
        load_matrices_transposed(
            b, tile.b + 16 * k * N_ROW + down(N_ROW) + (warp() % 8 + 8 * g) * 16);
        weigh(b, chunk.late + 16 * k + lane() % 4 * 2);
#pragma unroll
        for (int i = 0; i < TALL; ++i) {
          const int down = 2 * i + warp() / 8;
          if (down >= WIDE) continue;
          load_matrices_transposed(a, tile.x + 16 * k * D_ROW + across(D_ROW) + 16 * down);
          ssd_multiply<1>(state[g][i], a, b);
        }
      }
    }
  }
};

// One launch: a block of SSD_THREADS threads for each head, sizeof(SsdShared<D, N>) bytes of
// `shared`.
template <int GROUPS, int J, int D, int N, int X_ROW, int B_ROW, int C_ROW, class Y>
__device__ __forceinline__ void ssd_prompt(void* shared, const bf16* x, const float* dt,
                                           const float* a, const bf16* b, const bf16* c,
                                           float* state, Y* y, int rows) {
  constexpr int HEADS = GROUPS * J, Q = SSD_CHUNK;
  const int head = blockIdx.x, group = head / J, chunks = (rows + Q - 1) / Q;
  using Shared = SsdShared<D, N>;
  Shared& s = *(Shared*)shared;
  SsdBlock<D, N> block{s};
  wait_for_earlier();
  const float decay = a[head] * LOG2_E;
  const auto load = [&](int n) {
    if (n >= chunks) return;
    SsdTile<D, N>& tile = s.tiles[n % Shared::STAGES];
    ssd_copy<D, X_ROW>(tile.x, x + head * D, n * Q, rows);
    ssd_copy<N, B_ROW>(tile.b, b + group * N, n * Q, rows);
    ssd_copy<N, C_ROW>(tile.c, c + group * N, n * Q, rows);
    copies_end();
  };
  const auto sum = [&](int n) {
    if (threadIdx.x >= 32) return;
    block.sum(s.chunks[n % 2], decay);
    block.fetch(dt + head, HEADS, (n + 1) * Q, rows);
  };
  load(0), load(1);
  if (threadIdx.x < 32) block.fetch(dt + head, HEADS, 0, rows);
  block.load_state(state + (size_t)head * D * N);
  sum(0), sum(1);
  block.share_state();
  copies_wait<0>();
  __syncthreads();
  block.mix(s.tiles[0], s.chunks[0]);
  __syncthreads();
  for (int n = 0; n < chunks; ++n) {
    const SsdTile<D, N>& tile = s.tiles[n % Shared::STAGES];
    const SsdMixed& chunk = s.chunks[n % 2];
    if (Shared::STAGES > 2) load(n + 2);
    block.results(tile, chunk, y + ((size_t)n * Q * HEADS + head) * D, HEADS * D, rows - n * Q);
    block.advance(tile, chunk);
    if (n + 1 < chunks) block.mix(s.tiles[(n + 1) % Shared::STAGES], s.chunks[(n + 1) % 2]);
    __syncthreads();
    if (Shared::STAGES == 2) load(n + 2);
    block.share_state();
    sum(n + 2);
    copies_wait<0>();
    __syncthreads();
  }
  block.store_state(state + (size_t)head * D * N);
}
