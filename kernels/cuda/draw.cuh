// Draws a token of each row of logits, bit by bit as backends/text/src/sampler.rs does, which is
// its plain form: y[row] of x [rows, V] in f32, by the rule of each row. Before, y[row] is the
// place of the largest logit of the row, and is left where the rule takes that.
//
// A block of 1024 threads for a row. Tokens are in order by their distance from the most probable
// one and then by number; where in order a running sum exceeds a target is found by sums over 2048
// bins of that order, then over 2048 parts of the bin, until one token is left.
#pragma once
#include "numbers.cuh"

// As `Rule` of backends/text, in the order of 64-bit words.
struct Rule {
  u64 seed, sequence, top_p;
  u32 top_k, farthest;
  float scale;
  u32 unused;
};

constexpr int DRAW_THREADS = 1024, BIN_BITS = 11, BINS = 1 << BIN_BITS, TOKEN_BITS = 23;
static_assert(BINS == 2 * DRAW_THREADS, "each thread sums up two bins");

// How far a logit is below the greatest, in 2^-26 halvings of its probability.
__device__ __forceinline__ u32 distance_of(float logit, float peak, float scale) {
  const float halvings = (peak - logit) * scale;
  return halvings < 64 ? (u32)(halvings * 0x1p26f) : ~0u;
}

// The probability at a distance, in parts of 2^40. No product is added to without being rounded.
__device__ __forceinline__ u64 weight_of(u32 distance) {
  const float part = (float)(distance & 0x3ffffff) * 0x1p-26f;
  constexpr float POWERS[] = {9.205795e-3f, -5.5297356e-2f, 0.24018013f, -0.6931437f, 1};
  float power = -9.449022e-4f;
  for (int i = 0; i < 5; ++i) power = __fadd_rn(__fmul_rn(power, part), POWERS[i]);
  return (u64)(u32)(power * 0x1p24f) << 16 >> (distance >> 26);
}

// 64 random bits for each position of each text: Philox4x32-10.
__device__ __forceinline__ u64 random_bits(u64 seed, u64 position, u64 sequence) {
  u32 key[2] = {(u32)seed, (u32)(seed >> 32)};
  u32 c[4] = {(u32)position, (u32)(position >> 32), (u32)sequence, (u32)(sequence >> 32)};
  for (int round = 0; round < 10; ++round) {
    const u64 a = (u64)0xd2511f53 * c[0], b = (u64)0xcd9e8d57 * c[2];
    c[0] = (u32)(b >> 32) ^ c[1] ^ key[0], c[1] = (u32)b;
    c[2] = (u32)(a >> 32) ^ c[3] ^ key[1], c[3] = (u32)a;
    key[0] += 0x9e3779b9, key[1] += 0xbb67ae85;
  }
  return c[0] | (u64)c[1] << 32;
}

// The sum over the threads before this one, and that over all.
struct Sums {
  u64 before, all;
};

__device__ __forceinline__ Sums block_sums(u64 x) {
  __shared__ u64 shared[DRAW_THREADS / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  u64 sum = x;
  for (int step = 1; step < 32; step *= 2) {
    const u64 other = __shfl_up_sync(ALL_LANES, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  Sums sums{sum - x, 0};
  for (int i = 0; i < DRAW_THREADS / 32; ++i) {
    if (i < warp) sums.before += shared[i];
    sums.all += shared[i];
  }
  return sums;
}

// Tokens that may be drawn: those up to a place in order.
template <int V>
struct Candidates {
  static_assert(V <= 1 << TOKEN_BITS, "a place holds the token");
  const float* logits;
  float peak, scale;
  u64 last;

  // Calls `with` the place of each candidate among this thread's tokens, of which several are on
  // their way at once.
  template <class With>
  __device__ __forceinline__ void for_each(With with) const {
    constexpr int EACH = 8;
    for (int first = threadIdx.x; first < V; first += EACH * DRAW_THREADS) {
      float x[EACH];
      for (int i = 0; i < EACH; ++i) {
        const int token = first + i * DRAW_THREADS;
        x[i] = token < V ? logits[token] : 0;
      }
      for (int i = 0; i < EACH; ++i) {
        const int token = first + i * DRAW_THREADS;
        const u64 place = (u64)distance_of(x[i], peak, scale) << TOKEN_BITS | token;
        if (token < V && place <= last) with(place);
      }
    }
  }
};

// Places in order, the last with it.
struct Span {
  u64 first, last;
};

// Sums of 64 bits that a block adds to, in halves: shared memory adds no more at once.
struct Bins {
  u32 low[BINS], high[BINS], counts[BINS];

  __device__ __forceinline__ void clear() {
    for (int i = threadIdx.x; i < BINS; i += DRAW_THREADS) low[i] = high[i] = counts[i] = 0;
  }
  __device__ __forceinline__ void add(int bin, u64 x) {
    atomicAdd(counts + bin, 1u);
    const u32 part = x, before = atomicAdd(low + bin, part);
    const u32 rest = (u32)(x >> 32) + (before + part < part);
    if (rest) atomicAdd(high + bin, rest);
  }
  __device__ __forceinline__ u64 sum(int bin) const { return low[bin] | (u64)high[bin] << 32; }
};

// What of the order is a bin first.
constexpr int FIRST_SHIFT = 32 + TOKEN_BITS - BIN_BITS;

// The candidate where the sum of weights exceeds a share of the whole, in parts of 2^64; or, where
// that is not `by_weight`, the number of candidates exceeds `share`. No other one is in the span.
template <int V>
__device__ __forceinline__ Span find(const Candidates<V>& from, bool by_weight, u64 share) {
  __shared__ Bins bins;
  __shared__ u64 left;
  __shared__ u32 found;
  u64 bin = 0, target = share;
  for (int shift = FIRST_SHIFT;; shift -= BIN_BITS) {
    bins.clear();
    __syncthreads();
    from.for_each([&](u64 place) {
      if (place >> shift >> BIN_BITS == bin)
        bins.add((place >> shift) % BINS, by_weight ? weight_of(place >> TOKEN_BITS) : 1);
    });
    __syncthreads();
    const int mine = 2 * threadIdx.x;
    const u64 a = bins.sum(mine), both = a + bins.sum(mine + 1);
    const Sums sum = block_sums(both);
    if (by_weight && shift == FIRST_SHIFT) target = __umul64hi(sum.all, share);
    if (sum.before <= target && target < sum.before + both) {
      const bool is_second = target >= sum.before + a;
      found = mine + is_second;
      left = target - sum.before - (is_second ? a : 0);
    }
    __syncthreads();
    bin = bin << BIN_BITS | found, target = left;
    const bool is_alone = bins.counts[found] == 1 || shift == 0;
    __syncthreads();
    if (is_alone) return {bin << shift, min((bin + 1 << shift) - 1, from.last)};
  }
}

template <int V>
__device__ __forceinline__ void draw(const float* x, int* y, const Rule* rules, const long* past,
                                     int rows_of_step, int row) {
  wait_for_earlier();
  let_later_start();
  const Rule rule = rules[row];
  const float* logits = x + (u64)row * V;
  Candidates<V> candidates{logits, logits[y[row]], rule.scale, ~0ull};
  if (rule.scale == 0 || !(fabsf(candidates.peak) < __int_as_float(0x7f800000))) return;
  if (rule.top_k < V) candidates.last = find(candidates, false, rule.top_k - 1).last;
  if (rule.top_p != ~0ull) candidates.last = find(candidates, true, rule.top_p).last;
  const u64 farthest = (u64)rule.farthest + 1 << TOKEN_BITS;
  candidates.last = min(candidates.last, farthest - 1);
  const u64 bits = random_bits(rule.seed, past[row] + rows_of_step, rule.sequence);
  const Span span = find(candidates, true, bits);
  candidates.last = span.last;
  candidates.for_each([&](u64 place) {
    if (span.first <= place) y[row] = place % (1 << TOKEN_BITS);
  });
}
