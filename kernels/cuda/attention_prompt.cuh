// Attention of many rows to a cache, on every architecture: softmax(scale q k + mask) v without the
// scores in memory, by `mma.sync` with f32 sums.
//
// q and y are [S, KH, G, P] and [S, KH, G, PV] in f32, bf16 or f16; the caches k [T, KH, P] and v
// [T, KH, PV] are bf16 or f16, and q and the weights of the mean are rounded to their type. P and
// PV are multiples of 8. Row s is at position past + s. With CAUSAL, it sees what is up to itself,
// with a WINDOW above 0 what is less than WINDOW away.
//
// The G heads that share keys are packed: row i of a block's 64 is head i % G of position i / G. A
// block of four warps, 16 rows each, walks over the keys it sees, ATTENTION_KEYS at a time, of
// which the next are copied in the background. Sums and the largest score of a row stay in
// registers.
#pragma once
#include "fragments.cuh"

constexpr int ATTENTION_ROWS = 64, ATTENTION_THREADS = 128;

// The keys that position `at` sees: from `first` on, before `last`.
template <bool CAUSAL, int WINDOW>
struct AttentionMask {
  int keys;
  __device__ __forceinline__ int first(int at) const {
    return WINDOW > 0 ? max(0, at - WINDOW + 1) : 0;
  }
  __device__ __forceinline__ int last(int at) const {
    if (CAUSAL) return min(keys, at + 1);
    return WINDOW > 0 ? min(keys, at + WINDOW) : keys;
  }
};

// Keys a step: fewer where heads are wide, for the registers.
template <int P, int PV>
constexpr int attention_keys = P > 128 || PV > 128 ? 32 : 64;

// Rows in shared memory are padded to a multiple of 16, and by 16 bytes more against bank
// conflicts.
template <int P>
constexpr int attention_stride = (P + 15) / 16 * 16 + 8;

// Bytes of dynamic shared memory of a launch.
template <int P, int PV>
constexpr int attention_shared =
    2 * (ATTENTION_ROWS * attention_stride<P> +
         2 * attention_keys<P, PV> * (attention_stride<P> + attention_stride<PV>));

// Copies ROWS rows of W numbers of a cache, STRIDE apart, from `first` on; beyond the last row it
// is copied again.
template <int ROWS, int W, int STRIDE, class T>
__device__ __forceinline__ void attention_load(T* to, const T* from, int first, int rows) {
  constexpr int WORDS = (W + 15) / 16 * 2;
  for (int i = threadIdx.x; i < ROWS * WORDS; i += ATTENTION_THREADS) {
    const int row = i / WORDS, column = i % WORDS * 8;
    T* word = to + row * attention_stride<W> + column;
    const size_t at = min(first + row, rows - 1);
    if (column < W) copy<16>(word, from + at * STRIDE + column);
    else *(uint4*)word = make_uint4(0, 0, 0, 0);
  }
}

// The state of one warp: its 16 rows, of which a thread has `lane / 4` and the eighth after.
template <class T, int P, int PV>
struct AttentionWarp {
  static constexpr int KEYS = attention_keys<P, PV>, DEEP = (P + 15) / 16, WIDE = (PV + 15) / 16;
  float out[2 * WIDE][4] = {};
  float top[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};

  static __device__ __forceinline__ int place(int stride) {
    return threadIdx.x % 16 * stride + threadIdx.x % 32 / 16 * 8;
  }

  static __device__ __forceinline__ void scores(float (&s)[KEYS / 8][4], const T* q, const T* k) {
    constexpr int STRIDE = attention_stride<P>;
#pragma unroll
    for (int i = 0; i < DEEP; ++i) {
      u32 left[4], right[4];
      load_matrices(left, q + place(STRIDE) + 16 * i);
#pragma unroll
      for (int j = 0; j < KEYS / 16; ++j) {
        load_matrices(right, k + 16 * j * STRIDE + place(STRIDE) + 16 * i);
        const u32 low[2] = {right[0], right[2]}, high[2] = {right[1], right[3]};
        mma(k, s[2 * j], left, low);
        mma(k, s[2 * j + 1], left, high);
      }
    }
  }

  // Keys from `key` on that row h does not see get no score.
  template <class Mask>
  static __device__ __forceinline__ void mask(float (&s)[KEYS / 8][4], const Mask& m,
                                              const int (&at)[2], int key) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int first = m.first(at[h]), last = m.last(at[h]);
#pragma unroll
      for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int t = key + 8 * j + threadIdx.x % 4 * 2 + e;
          if (t < first || t >= last) s[j][2 * h + e] = -1e30f;
        }
      }
    }
  }

  // Turns scores into weights relative to the largest so far, and what was summed before to the
  // same.
  __device__ __forceinline__ void weigh(float (&s)[KEYS / 8][4], float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float high = top[h];
#pragma unroll
      for (int j = 0; j < KEYS / 8; ++j) high = fmaxf(high, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
      high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, 1));
      high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, 2));
      const float less = power_of_2((top[h] - high) * scale);
      const float offset = high > -1e29f ? high * scale : 0;  // 0 where nothing is seen yet
      top[h] = high;
      sum[h] *= less;
#pragma unroll
      for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[j][2 * h + e];
          x = power_of_2(x * scale - offset);
          sum[h] += x;
        }
      }
#pragma unroll
      for (int j = 0; j < 2 * WIDE; ++j) out[j][2 * h] *= less, out[j][2 * h + 1] *= less;
    }
  }

  __device__ __forceinline__ void add(const float (&s)[KEYS / 8][4], const T* v) {
    constexpr int STRIDE = attention_stride<PV>;
#pragma unroll
    for (int j = 0; j < KEYS / 16; ++j) {
      const float (&a)[4] = s[2 * j], (&b)[4] = s[2 * j + 1];
      const u32 left[4] = {pair_of(v, a[0], a[1]), pair_of(v, a[2], a[3]), pair_of(v, b[0], b[1]),
                           pair_of(v, b[2], b[3])};
#pragma unroll
      for (int i = 0; i < WIDE; ++i) {
        u32 right[4];
        load_matrices_transposed(right, v + 16 * j * STRIDE + place(STRIDE) + 16 * i);
        const u32 low[2] = {right[0], right[1]}, high[2] = {right[2], right[3]};
        mma(v, out[2 * i], left, low);
        mma(v, out[2 * i + 1], left, high);
      }
    }
  }

  // The means of row h, to `y`.
  template <class Y>
  __device__ __forceinline__ void store(Y* y, int h) {
    float total = sum[h];
    total += __shfl_xor_sync(ALL_LANES, total, 1);
    total += __shfl_xor_sync(ALL_LANES, total, 2);
    if (y == nullptr) return;
#pragma unroll
    for (int j = 0; j < PV / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        y[8 * j + threadIdx.x % 4 * 2 + e] = from_float<Y>(out[j][2 * h + e] / total);
      }
    }
  }
};

// One launch: ATTENTION_THREADS threads, along x a block for each ATTENTION_ROWS of S * G rows,
// along y one for each of KH heads of keys; attention_shared<P, PV> bytes of `shared`. The last
// rows come first: they see the most.
template <int KH, int G, int P, int PV, bool CAUSAL, int WINDOW, class Q, class T, class Y>
__device__ __forceinline__ void attention_prompt(T* shared, const Q* q, const T* k, const T* v,
                                                 Y* y, int rows, int past, int keys, float scale) {
  using Warp = AttentionWarp<T, P, PV>;
  constexpr int KEYS = Warp::KEYS, K_SIZE = KEYS * attention_stride<P>;
  constexpr int BUFFER = K_SIZE + KEYS * attention_stride<PV>;
  const AttentionMask<CAUSAL, WINDOW> mask{keys};
  const int head = blockIdx.y, top = (gridDim.x - 1 - blockIdx.x) * ATTENTION_ROWS, all = rows * G;
  T* buffers = shared + ATTENTION_ROWS * attention_stride<P>;
  wait_for_earlier();

  constexpr int WORDS = (P + 15) / 16 * 2;
  for (int i = threadIdx.x; i < ATTENTION_ROWS * WORDS; i += ATTENTION_THREADS) {
    const int row = min(top + i / WORDS, all - 1), column = i % WORDS * 8;
    const Q* from = q + ((size_t)(row / G * KH + head) * G + row % G) * P + column;
    *(uint4*)(shared + i / WORDS * attention_stride<P> + column) =
        column < P ? eight_of(k, from) : make_uint4(0, 0, 0, 0);
  }
  const int low = past + top / G, high = past + min(top + ATTENTION_ROWS - 1, all - 1) / G;
  const int first = mask.first(low) / KEYS * KEYS, last = mask.last(high);
  const auto load = [&](int key, int which) {
    T* to = buffers + which * BUFFER;
    attention_load<KEYS, P, KH * P>(to, k + head * P, key, keys);
    attention_load<KEYS, PV, KH * PV>(to + K_SIZE, v + head * PV, key, keys);
    copies_end();
  };
  load(first, 0);

  Warp warp;
  const int mine = threadIdx.x / 32 * 16, row = top + mine + threadIdx.x % 32 / 4;
  const int at[2] = {past + row / G, past + (row + 8) / G};
  for (int key = first, which = 0; key < last; key += KEYS, which ^= 1) {
    copies_wait<0>();
    __syncthreads();
    if (key + KEYS < last) load(key + KEYS, which ^ 1);
    const T* tile = buffers + which * BUFFER;
    float s[KEYS / 8][4] = {};
    warp.scores(s, shared + mine * attention_stride<P>, tile);
    if (key < mask.first(high) || key + KEYS > mask.last(low)) warp.mask(s, mask, at, key);
    warp.weigh(s, scale * LOG2_E);
    warp.add(s, tile + K_SIZE);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = row + 8 * h;
    warp.store(r < all ? y + ((size_t)(r / G * KH + head) * G + r % G) * PV : (Y*)nullptr, h);
  }
}
