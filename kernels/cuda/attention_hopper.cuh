// Attention of many rows to a cache on Hopper: what attention_prompt.cuh computes, for heads of 64
// or 128 numbers in bf16.
//
// q and y are [S, KH, G, P] in f32, bf16 (y also f16), caches k and v [T, KH, P] in bf16. A block
// has 64 rows of the S * G that share a head of keys for each of its GROUPS warpgroups, two or, the
// best for heads of 64 numbers, three, and walks over 128 keys at a time from the last that it sees
// to the first. One thread copies keys and values (TMA), two steps ahead. While `wgmma` adds the
// values of a step by the weights in registers, the scores of the next are turned into weights.
//
// Tensor maps of k and v: bf16, {KH * P, T}, boxes of 64 by 128, 128-byte swizzle, zeros out of
// bounds. They may have more rows than T, which hold finite numbers.
#pragma once
#include "attention_prompt.cuh"
#include "hopper.cuh"
#include "results.cuh"

constexpr int FLASH_KEYS = 128, FLASH_STAGES = 2;

// Rows of a block, its threads, and bytes of its dynamic shared memory.
template <int GROUPS = 2>
constexpr int flash_rows = 64 * GROUPS;
template <int GROUPS = 2>
constexpr int flash_threads = 128 * (GROUPS + 1);
template <int P, int GROUPS = 2>
constexpr int flash_shared = (flash_rows<GROUPS> + 2 * FLASH_STAGES * FLASH_KEYS) * P * 2;

// A ring of buffers, each of one step's keys or values.
struct FlashRing {
  Barrier full[FLASH_STAGES], empty[FLASH_STAGES];

  __device__ __forceinline__ void start(int groups) {
    for (int i = 0; i < FLASH_STAGES; ++i)
      barrier_init(&full[i], 1), barrier_init(&empty[i], groups);
  }
  __device__ __forceinline__ void wait_full(int step) {
    barrier_wait(&full[step % FLASH_STAGES], step / FLASH_STAGES % 2);
  }
  __device__ __forceinline__ void wait_empty(int step) {
    barrier_wait(&empty[step % FLASH_STAGES], step / FLASH_STAGES % 2 ^ 1);
  }
  __device__ __forceinline__ void release(int step) {
    if (threadIdx.x % 128 == 0) barrier_arrive(&empty[step % FLASH_STAGES]);
  }
};

template <int P, int GROUPS>
struct FlashShared {
  bf16 q[flash_rows<GROUPS> * P], k[FLASH_STAGES][FLASH_KEYS * P], v[FLASH_STAGES][FLASH_KEYS * P];
};

// The state of a warpgroup: 64 rows, of which a thread has one and the eighth after.
template <int P, int GROUPS>
struct FlashRows {
  static constexpr int PARTS = P / 64, SCORES = FLASH_KEYS / 2;
  float out[P / 2];
  u32 weights[FLASH_KEYS / 16][4];
  float top[2] = {-1e30f, -1e30f}, sum[2] = {0, 0}, less[2];

  // Begins s = q k; rows of both are split in parts of 64 numbers.
  static __device__ __forceinline__ void scores(float (&s)[SCORES], const bf16* q, const bf16* k) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < P / 16; ++i) {
      const bf16* left = q + i / 4 * flash_rows<GROUPS> * 64 + i % 4 * 16;
      const bf16* right = k + i / 4 * FLASH_KEYS * 64 + i % 4 * 16;
      wgmma_bf16(s, tile(left), tile(right), i > 0);
    }
    wgmma_commit();
  }

  // Begins out += weights v.
  __device__ __forceinline__ void add(const bf16* v, int add) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < FLASH_KEYS / 16; ++i) {
      wgmma_across_bf16(out, weights[i], tile_across(v + i * 16 * 64, FLASH_KEYS * 128),
                        i > 0 || add);
    }
    wgmma_commit();
  }

  // Keys from `key` on that row h does not see get no score.
  template <class Mask>
  static __device__ __forceinline__ void mask(float (&s)[SCORES], const Mask& m, const int (&at)[2],
                                              int key) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int first = m.first(at[h]) - key, last = m.last(at[h]) - key;
#pragma unroll
      for (int i = 0; i < SCORES; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int t = 2 * i + threadIdx.x % 4 * 2 + e;
          if (t < first || t >= last) s[i + 2 * h + e] = -1e30f;
        }
      }
    }
  }

  // Turns scores into weights relative to the largest so far; `less` is what that makes of earlier
  // ones.
  __device__ __forceinline__ void weigh(float (&s)[SCORES], float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float high = top[h];
#pragma unroll
      for (int i = 2 * h; i < SCORES; i += 4) high = fmaxf(high, fmaxf(s[i], s[i + 1]));
      high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, 1));
      high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, 2));
      less[h] = power_of_2((top[h] - high) * scale);
      const float offset = high > -1e29f ? high * scale : 0;  // 0 where nothing is seen yet
      top[h] = high;
      float total = 0;
#pragma unroll
      for (int i = 2 * h; i < SCORES; i += 4) {
        s[i] = power_of_2(s[i] * scale - offset);
        s[i + 1] = power_of_2(s[i + 1] * scale - offset);
        total += s[i] + s[i + 1];
      }
      sum[h] = sum[h] * less[h] + total;
    }
  }

  __device__ __forceinline__ void fade() {
#pragma unroll
    for (int i = 0; i < P / 2; ++i) out[i] *= less[i / 2 % 2];
  }

  __device__ __forceinline__ void pack(const float (&s)[SCORES]) {
#pragma unroll
    for (int i = 0; i < SCORES; i += 2) weights[i / 8][i / 2 % 4] = bf16_pair(s[i], s[i + 1]);
  }

  // The means of row h to `y`, where the row is `there`.
  template <class Y>
  __device__ __forceinline__ void store(Y* y, int h, bool there) {
    const auto none = [](int, int, float2 v, float2) { return v; };
    const auto line = result<P, P>(y, y, none);
    float total = sum[h];
    total += __shfl_xor_sync(ALL_LANES, total, 1);
    total += __shfl_xor_sync(ALL_LANES, total, 2);
    const float factor = 1 / total;
#pragma unroll
    for (int i = 0; i < P / 2; i += 16) {
      float2 v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* pair = &out[i + 4 * j + 2 * h];
        v[j] = make_float2(pair[0] * factor, pair[1] * factor);
      }
      store_columns(line, v, 0, 2 * i, there ? 1 : 0);
    }
  }
};

// Rows of q as the tiles of `scores`, by the threads that will read them.
template <int KH, int G, int P, int GROUPS, class Q>
__device__ __forceinline__ void flash_queries(bf16* to, const Q* q, int head, int top, int all) {
  const int part = threadIdx.x / 128 * 64;  // a warpgroup's own rows
  for (int i = threadIdx.x % 128; i < 64 * P / 8; i += 128) {
    const int row = part + i / (P / 8), word = i % (P / 8), at = min(top + row, all - 1);
    const Q* from = q + ((size_t)(at / G * KH + head) * G + at % G) * P + word * 8;
    bf16* tile = to + word / 8 * flash_rows<GROUPS> * 64;
    *(uint4*)(tile + row * 64 + (word % 8 ^ row % 8) * 8) = eight_of(to, from);
  }
  fence_async();
  named_sync(1 + threadIdx.x / 128, 128);
}

// Copies keys and values of `steps` steps, the last of which begins at `first`.
template <int P, int GROUPS>
__device__ __forceinline__ void flash_copy(FlashShared<P, GROUPS>& s, FlashRing& keys,
                                           FlashRing& values, const TensorMap& k,
                                           const TensorMap& v, int head, int first, int steps) {
  const auto box = [&](bf16* to, const TensorMap& map, Barrier* b, int key) {
    barrier_expect(b, FLASH_KEYS * P * 2);
    for (int i = 0; i < P; i += 64) load_box(to + i * FLASH_KEYS, map, b, head * P + i, key);
  };
  for (int n = 0; n < steps; ++n) {
    const int key = first + (steps - 1 - n) * FLASH_KEYS, stage = n % FLASH_STAGES;
    keys.wait_empty(n);
    box(s.k[stage], k, &keys.full[stage], key);
    values.wait_empty(n);
    box(s.v[stage], v, &values.full[stage], key);
  }
}

// One launch: flash_threads<GROUPS> threads, along x a block for each of KH heads of keys, along y
// one for each flash_rows<GROUPS> of S * G rows; flash_shared<P, GROUPS> bytes of `shared`.
template <int KH, int G, int P, bool CAUSAL, int WINDOW, int GROUPS = 2, class Q, class Y>
__device__ __forceinline__ void attention_hopper(u8* shared, const Q* q, const TensorMap& k,
                                                 const TensorMap& v, Y* y, int rows, int past,
                                                 int keys, float scale) {
  constexpr int ROWS = flash_rows<GROUPS>;
  __shared__ FlashRing ring[2];
  using Shared = FlashShared<P, GROUPS>;
  Shared& s = *(Shared*)shared;
  const AttentionMask<CAUSAL, WINDOW> mask{keys};
  const int head = blockIdx.x, top = (gridDim.y - 1 - blockIdx.y) * ROWS, all = rows * G;
  const int low = past + top / G, high = past + min(top + ROWS - 1, all - 1) / G;
  const int first = mask.first(low) / FLASH_KEYS * FLASH_KEYS;
  const int steps = (mask.last(high) - first + FLASH_KEYS - 1) / FLASH_KEYS;
  if (threadIdx.x == 0) {
    ring[0].start(GROUPS), ring[1].start(GROUPS);
    barrier_init_fence();
  }
  __syncthreads();
  wait_for_earlier();
  if (threadIdx.x >= 128 * GROUPS) {
    give_registers<GROUPS == 3 ? 32 : 40>();
    if (threadIdx.x == 128 * GROUPS) flash_copy(s, ring[0], ring[1], k, v, head, first, steps);
    return;
  }
  take_registers<GROUPS == 3 ? 160 : 232>();
  flash_queries<KH, G, P, GROUPS>(s.q, q, head, top, all);
  const int mine = threadIdx.x / 128 * 64,
            row = top + mine + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  const int at[2] = {past + row / G, past + (row + 8) / G};
  const float base_2 = scale * LOG2_E;
  FlashRows<P, GROUPS> state;
  for (int n = 0; n < steps; ++n) {
    const int key = first + (steps - 1 - n) * FLASH_KEYS;
    float score[FLASH_KEYS / 2];
    ring[0].wait_full(n);
    state.scores(score, s.q + mine * 64, s.k[n % FLASH_STAGES]);
    if (n > 0) {
      ring[1].wait_full(n - 1);
      state.add(s.v[(n - 1) % FLASH_STAGES], n > 1);
      wgmma_wait<1>();
    } else {
      wgmma_wait<0>();
    }
    ring[0].release(n);
    if (key < mask.first(high) || key + FLASH_KEYS > mask.last(low))
      state.mask(score, mask, at, key);
    state.weigh(score, base_2);
    if (n > 0) {
      wgmma_wait<0>();
      ring[1].release(n - 1);
      state.fade();
    }
    state.pack(score);
  }
  ring[1].wait_full(steps - 1);
  state.add(s.v[(steps - 1) % FLASH_STAGES], steps > 1);
  wgmma_wait<0>();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = row + 8 * h;
    state.store(y + ((size_t)(r / G * KH + head) * G + r % G) * P, h, r < all);
  }
}
