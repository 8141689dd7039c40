// Attention of a few new positions of one sequence to its cache, grouped heads, sums in f32.
//
//   y[s, h, g] = sum over t of softmax(scale q[s, h, g] . k[t, h]) v[t, h]
//
// q is [S, HEADS, GROUP, P] in f32 or bf16; the caches k [.., HEADS, P] and v [.., HEADS, PV] are
// in bf16, f16 or f32; y is [S, HEADS, GROUP, PV]. P and PV are multiples of 8, at most 256. If
// CAUSAL, `length` positions came before, new position s sees those up to length + s (its own key
// and value are in the cache), and with a WINDOW above 0 only the nearest WINDOW of them. Otherwise
// all see `length` positions.
//
// The queries of a head, S x GROUP, are taken QUERIES at a time. The cache of each is cut into at
// most PARTS parts of equal length, a block each; a short cache has fewer, and blocks without one
// end at once, so that one launch serves every length. In a warp, LANES lanes take a position, 8
// numbers each, and keep a softmax of their own; a block adds those of its lanes up, and the last
// block those of the parts, always in the same order.
//
// `length` and, if CAUSAL, what the cache has of earlier positions are read before earlier kernels
// have ended: none of the same graph may write them.
#pragma once
#include "last.cuh"
#include "numbers.cuh"

template <int S_, int HEADS_, int GROUP_, int P_, int PV_, bool CAUSAL_, int WINDOW_, int PARTS_>
struct AttentionToken {
  static constexpr int S = S_, HEADS = HEADS_, GROUP = GROUP_, P = P_, PV = PV_;
  static constexpr bool CAUSAL = CAUSAL_;
  static constexpr int WINDOW = WINDOW_, PARTS = PARTS_;
  static constexpr int WARPS = 8, THREADS = 32 * WARPS;
  static constexpr int WIDE = P > PV ? P : PV;
  static constexpr int LANES = WIDE > 128 ? 32 : WIDE > 64 ? 16 : WIDE > 32 ? 8 : WIDE > 16 ? 4 : 2;
  static constexpr int FIT = WIDE > 128 ? 4 : 8, QUERIES = S * GROUP < FIT ? S * GROUP : FIT;
  static constexpr int AT_ONCE = 32 / LANES, UNROLLED = QUERIES > 4 ? 2 : 4;
  static constexpr int POSITIONS = AT_ONCE * UNROLLED;
  static constexpr int SETS = (S * GROUP + QUERIES - 1) / QUERIES;
  // A part is at least a round of the block. Loads are under way two rounds ahead.
  static constexpr int PART_MIN = WARPS * POSITIONS, AHEAD = 2 * PART_MIN;

  static constexpr int BLOCKS = HEADS * SETS * PARTS, LEFT = BLOCKS * QUERIES;
  // So many parts are added at once,
  static constexpr int ADDED = PARTS < 12 ? PARTS : 12;
  // by each of so many threads for four values.
  static constexpr int SLOTS = QUERIES * PV / 4, GROUPS = 2 * SLOTS <= THREADS ? 2 : 1;
  // What a launch needs besides: floats of scratch, and counters that are zero.
  static constexpr int SCRATCH = LEFT * (PV + 2), COUNTERS = HEADS * SETS;
};

// 8 numbers of a cache.
template <class T>
struct Eight {
  uint4 v[sizeof(T) / 2];

  __device__ __forceinline__ void load(const T* p) {
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 2); ++i) v[i] = ((const uint4*)p)[i];
  }
  __device__ __forceinline__ void numbers(float (&to)[8]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float4 half = load_4((const T*)v + 4 * i);
      to[4 * i] = half.x, to[4 * i + 1] = half.y, to[4 * i + 2] = half.z, to[4 * i + 3] = half.w;
    }
  }
};

// Softmax sums of a lane's positions for each query: its largest score (in base 2), the sum of the
// exponentials less that, and 8 numbers of the values weighed by them.
template <int QUERIES>
struct Softmaxes {
  float top[QUERIES], sum[QUERIES], value[QUERIES][8];
};

// The same of one query, with four of the values.
struct Four {
  float top = -1e30f, sum = 0;
  float4 value = {0, 0, 0, 0};

  // Takes in N others: (top, sum) and four of the values of each.
  template <int N>
  __device__ __forceinline__ void add(const float2 (&its)[N], const float4 (&v)[N]) {
    float most = top;
#pragma unroll
    for (int i = 0; i < N; ++i) most = fmaxf(most, its[i].x);
    float less = exp2f(top - most);
    top = most, sum *= less;
    value = {less * value.x, less * value.y, less * value.z, less * value.w};
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float factor = exp2f(its[i].x - most);
      sum += factor * its[i].y;
      value = {value.x + factor * v[i].x, value.y + factor * v[i].y, value.z + factor * v[i].z,
               value.w + factor * v[i].w};
    }
  }
};

template <class A, class Q, class C, class Out>
struct AttentionTokenBlock {
  const Q* q;
  const C *k, *v;
  const int* length;
  float scale;
  Out* y;
  float* scratch;
  u32* counters;
  int part, set, head;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int own = lane % A::LANES * 8;  // the first of this lane's 8 numbers

  // The positions of this part.
  struct Span {
    int past, from, to, parts;
  };
  // What a lane has of UNROLLED of them.
  struct Positions {
    Eight<C> keys[A::UNROLLED], values[A::UNROLLED];
  };

  __device__ __forceinline__ Span span() const {
    int past = __ldcg(length), end = A::CAUSAL ? past + A::S : past;
    int first = A::CAUSAL && A::WINDOW > 0 ? max(0, past + 1 - A::WINDOW) : 0;
    int size = max((end - first + A::PARTS - 1) / A::PARTS, A::PART_MIN);
    int from = first + part * size;
    return {past, from, min(from + size, end), (end - first + size - 1) / size};
  }

  // Brings `positions` from `from` on, as far as earlier steps left them, to L2: thread `thread` of
  // `threads`. What all blocks ask for at a time has to fit.
  __device__ __forceinline__ void prefetch_some(const Span& span, int from, int positions,
                                                int thread, int threads) const {
    constexpr int LINE = 128 / sizeof(C), K_LINES = (A::P + LINE - 1) / LINE;
    constexpr int V_LINES = (A::PV + LINE - 1) / LINE, LINES = K_LINES + V_LINES;
    int count = min(min(span.to, span.past) - from, positions) * LINES;
    for (int i = thread; i < count; i += threads) {
      u64 row = (u64)(from + i / LINES) * A::HEADS + head;
      int line = i % LINES;
      prefetch(line < K_LINES ? k + row * A::P + line * LINE
                              : v + row * A::PV + (line - K_LINES) * LINE);
    }
  }

  // The number of query i of this set among the S x GROUP of the head; past the last, the last.
  __device__ __forceinline__ int query(int i) const {
    return min(set * A::QUERIES + i, A::S * A::GROUP - 1);
  }
  __device__ __forceinline__ u64 row_of(int query) const {
    return ((u64)(query / A::GROUP) * A::HEADS + head) * A::GROUP + query % A::GROUP;
  }

  __device__ __forceinline__ void load_queries(float (&to)[A::QUERIES][8]) const {
    constexpr float LOG2_E = 1.4426950408889634f;
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        const Q* from = q + row_of(query(i)) * A::P + (own < A::P ? own + j : 0);
        float4 v = load_4(from);
        float factor = own < A::P ? scale * LOG2_E : 0;
        to[i][j] = v.x * factor, to[i][j + 1] = v.y * factor;
        to[i][j + 2] = v.z * factor, to[i][j + 3] = v.w * factor;
      }
    }
  }

  __device__ __forceinline__ bool sees(int i, int t, const Span& span) const {
    if (!A::CAUSAL) return t < span.to;
    int position = span.past + query(i) / A::GROUP;
    return t < span.to && t <= position && (A::WINDOW == 0 || t + A::WINDOW > position);
  }

  // The scores of UNROLLED positions, the same in all their lanes.
  __device__ __forceinline__ void score(float (&to)[A::QUERIES][A::UNROLLED],
                                        const float (&queries)[A::QUERIES][8],
                                        const Eight<C>* keys, int first, const Span& span) const {
#pragma unroll
    for (int u = 0; u < A::UNROLLED; ++u) {
      float key[8];
      keys[u].numbers(key);
#pragma unroll
      for (int i = 0; i < A::QUERIES; ++i) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += queries[i][j] * key[j];
#pragma unroll
        for (int step = A::LANES / 2; step > 0; step /= 2)
          sum += __shfl_xor_sync(ALL_LANES, sum, step);
        to[i][u] = sees(i, first + u * A::AT_ONCE, span) ? sum : -__int_as_float(0x7f800000);
      }
    }
  }

  // Takes UNROLLED positions into the softmaxes.
  static __device__ __forceinline__ void take(Softmaxes<A::QUERIES>& all,
                                              float (&scores)[A::QUERIES][A::UNROLLED],
                                              const Eight<C>* values) {
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
      float top = all.top[i];
#pragma unroll
      for (int u = 0; u < A::UNROLLED; ++u) top = fmaxf(top, scores[i][u]);
      float less = exp2f(all.top[i] - top);
      all.top[i] = top, all.sum[i] *= less;
#pragma unroll
      for (int j = 0; j < 8; ++j) all.value[i][j] *= less;
#pragma unroll
      for (int u = 0; u < A::UNROLLED; ++u) all.sum[i] += scores[i][u] = exp2f(scores[i][u] - top);
    }
#pragma unroll
    for (int u = 0; u < A::UNROLLED; ++u) {
      float value[8];
      values[u].numbers(value);
#pragma unroll
      for (int i = 0; i < A::QUERIES; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) all.value[i][j] += scores[i][u] * value[j];
      }
    }
  }

  // Loads those of the positions from `at` on that are not before `least`.
  __device__ __forceinline__ void load(Positions& to, int at, int least, const Span& span) const {
    // Lanes without numbers of a key or a value repeat the first ones: their products are not used.
    int key = own < A::P ? own : 0, value = own < A::PV ? own : 0;
#pragma unroll
    for (int u = 0; u < A::UNROLLED; ++u) {
      int position = min(at + lane / A::LANES + u * A::AT_ONCE, span.to - 1);
      if (position < least) continue;
      u64 row = (u64)position * A::HEADS + head;
      to.keys[u].load(k + row * A::P + key);
      to.values[u].load(v + row * A::PV + value);
    }
  }

  // This warp's first positions.
  __device__ __forceinline__ int first(const Span& span) const {
    return span.from + warp * A::POSITIONS;
  }

  // Takes in this warp's positions, of which the first are there if CAUSAL, but for new ones.
  __device__ __forceinline__ void walk(Softmaxes<A::QUERIES>& all, Positions& some,
                                       const Span& span) const {
    float queries[A::QUERIES][8];
    load_queries(queries);
    int least = A::CAUSAL ? span.past : 0;
    for (int at = first(span); at < span.to; at += A::WARPS * A::POSITIONS, least = 0) {
      prefetch_some(span, at + A::AHEAD, A::POSITIONS, lane, 32);
      load(some, at, least, span);
      float scores[A::QUERIES][A::UNROLLED];
      score(scores, queries, some.keys, at + lane / A::LANES, span);
      take(all, scores, some.values);
      some = {};  // so that it takes no registers until then
    }
  }

  // What a part leaves of query i: four values, and (top, sum).
  __device__ __forceinline__ int left(int part, int i) const {
    return ((head * A::SETS + set) * A::PARTS + part) * A::QUERIES + i;
  }
  __device__ __forceinline__ float4* values_left(int part, int i, int d) const {
    return (float4*)(scratch + (u64)left(part, i) * A::PV + d);
  }
  __device__ __forceinline__ float2* sums_left(int part, int i) const {
    return (float2*)(scratch + (u64)A::LEFT * A::PV) + left(part, i);
  }

  __device__ __forceinline__ void store(int i, int d, const Four& four) const {
    if (set * A::QUERIES + i >= A::S * A::GROUP) return;
    Out* to = y + row_of(query(i)) * A::PV + d;
    float4 v = four.value;
    to[0] = from_float<Out>(v.x / four.sum), to[1] = from_float<Out>(v.y / four.sum);
    to[2] = from_float<Out>(v.z / four.sum), to[3] = from_float<Out>(v.w / four.sum);
  }

  // Adds up the softmaxes of a warp's positions, in every lane.
  static __device__ __forceinline__ void add_lanes(Softmaxes<A::QUERIES>& all) {
#pragma unroll
    for (int step = A::LANES; step < 32; step *= 2) {
#pragma unroll
      for (int i = 0; i < A::QUERIES; ++i) {
        float other = __shfl_xor_sync(ALL_LANES, all.top[i], step), top = fmaxf(all.top[i], other);
        float own = exp2f(all.top[i] - top), its = exp2f(other - top);
        all.top[i] = top;
        all.sum[i] = own * all.sum[i] + its * __shfl_xor_sync(ALL_LANES, all.sum[i], step);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float value = __shfl_xor_sync(ALL_LANES, all.value[i][j], step);
          all.value[i][j] = own * all.value[i][j] + its * value;
        }
      }
    }
  }

  // Adds up the block's softmaxes; stores the result, or leaves it if there are more parts.
  __device__ __forceinline__ void leave(const Softmaxes<A::QUERIES>& all, int parts) const {
    __shared__ float2 sums[A::WARPS][A::QUERIES];
    __shared__ float4 values[A::WARPS][A::QUERIES][A::PV / 4];
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
      if (lane == 0) sums[warp][i] = {all.top[i], all.sum[i]};
      const float* v = all.value[i];
      if (lane < A::LANES && own < A::PV) {
        values[warp][i][own / 4] = {v[0], v[1], v[2], v[3]};
        values[warp][i][own / 4 + 1] = {v[4], v[5], v[6], v[7]};
      }
    }
    __syncthreads();
    for (int at = threadIdx.x * 4; at < A::QUERIES * A::PV; at += A::THREADS * 4) {
      int i = at / A::PV, d = at % A::PV;
      Four four;
      float2 its[A::WARPS];
      float4 v[A::WARPS];
#pragma unroll
      for (int w = 0; w < A::WARPS; ++w) its[w] = sums[w][i], v[w] = values[w][i][d / 4];
      four.add(its, v);
      if (parts == 1) {
        store(i, d, four);
      } else {
        *values_left(part, i, d) = four.value;
        if (d == 0) *sums_left(part, i) = {four.top, four.sum};
      }
    }
  }

  // Four values of query i of the parts `first`, `first` + A::GROUPS, ...
  __device__ __forceinline__ Four of_parts(int first, int parts, int i, int d) const {
    Four four;
    for (; first < parts; first += A::GROUPS * A::ADDED) {
      float2 its[A::ADDED];
      float4 v[A::ADDED];
#pragma unroll
      for (int j = 0; j < A::ADDED; ++j) {
        int part = first + j * A::GROUPS;
        its[j] = part < parts ? __ldcg(sums_left(part, i)) : float2{-1e30f, 0};
        v[j] = part < parts ? __ldcg(values_left(part, i, d)) : float4{0, 0, 0, 0};
      }
      four.add(its, v);
    }
    return four;
  }

  // Adds up the parts.
  __device__ __forceinline__ void combine(int parts) const {
    __shared__ Four halves[A::GROUPS == 2 ? A::SLOTS : 1];
    if constexpr (A::GROUPS == 2) {
      const int slot = threadIdx.x % A::SLOTS, half = threadIdx.x / A::SLOTS;
      const int i = slot * 4 / A::PV, d = slot * 4 % A::PV;
      Four four;
      if (half < 2) four = of_parts(half, parts, i, d);
      if (half == 1) halves[slot] = four;
      __syncthreads();
      if (half != 0) return;
      const float2 its[1] = {{halves[slot].top, halves[slot].sum}};
      const float4 v[1] = {halves[slot].value};
      four.add(its, v);
      store(i, d, four);
    } else {
      for (int at = threadIdx.x * 4; at < A::QUERIES * A::PV; at += A::THREADS * 4)
        store(at / A::PV, at % A::PV, of_parts(0, parts, at / A::PV, at % A::PV));
    }
  }

  __device__ __forceinline__ void run() const {
    Span mine = span();
    Positions some;
    if (A::CAUSAL && first(mine) < mine.to) load(some, first(mine), 0, mine);
    prefetch_some(mine, mine.from, A::AHEAD, threadIdx.x, A::THREADS);
    let_later_start();
    wait_for_earlier();
    if (part >= mine.parts) return;
    Softmaxes<A::QUERIES> all;
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
      all.top[i] = -1e30f, all.sum[i] = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) all.value[i][j] = 0;
    }
    walk(all, some, mine);
    add_lanes(all);
    leave(all, mine.parts);
    if (mine.parts > 1 && is_last_block(counters + head * A::SETS + set, mine.parts))
      combine(mine.parts);
  }
};

// `block` of A::BLOCKS, of A::THREADS threads; `scratch` of A::SCRATCH and `counters` of
// A::COUNTERS.
template <class A, class Q, class C, class Out>
__device__ __forceinline__ void attention_token(const Q* q, const C* k, const C* v,
                                                const int* length, float scale, Out* y,
                                                float* scratch, u32* counters, int block) {
  int set = block / A::PARTS;
  AttentionTokenBlock<A, Q, C, Out>{
      q, k, v, length, scale, y, scratch, counters, block % A::PARTS, set % A::SETS, set / A::SETS}
      .run();
}
