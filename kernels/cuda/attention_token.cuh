// Attention of a new position (attention_parts.cuh) by sums over lanes, in f32.
//
// q is f32 or bf16, the caches are bf16, f16 or f32; P and PV are multiples of 8, at most 256. In a
// warp, LANES lanes take a position, 8 numbers each.
#pragma once
#include "attention_parts.cuh"

template <int HEADS, int GROUP, int P, int PV, int WINDOW, int PARTS>
struct AttentionToken
    : AttentionParts<HEADS, GROUP, P, PV, WINDOW, PARTS, 8, (P > 128 || PV > 128 ? 4 : 8)> {
  static constexpr int WIDE = P > PV ? P : PV;
  static constexpr int LANES = WIDE > 128 ? 32 : WIDE > 64 ? 16 : WIDE > 32 ? 8 : WIDE > 16 ? 4 : 2;
  static constexpr int AT_ONCE = 32 / LANES, UNROLLED = AttentionToken::QUERIES > 4 ? 2 : 4;
  static constexpr int POSITIONS = AT_ONCE * UNROLLED;
  // A part is at least a round of the block. Loads are under way two rounds ahead.
  static constexpr int PART_MIN = AttentionToken::WARPS * POSITIONS, AHEAD = 2 * PART_MIN;
};

// 8 numbers of a cache.
template <class T>
struct Eight {
  uint4 v[sizeof(T) / 2];

  __device__ __forceinline__ void load(const T* p) {
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 2); ++i) v[i] = __ldcg((const uint4*)p + i);
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

template <class A, class Q, class C, class Out>
struct AttentionTokenBlock : AttentionPart<A, Q, C, Out> {
  using Base = AttentionPart<A, Q, C, Out>;
  using typename Base::Span;
  using Base::lane, Base::warp, Base::head;
  int own = lane % A::LANES * 8;  // the first of this lane's 8 numbers

  // What a lane has of UNROLLED positions.
  struct Positions {
    Eight<C> keys[A::UNROLLED], values[A::UNROLLED];
  };

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
      prefetch(line < K_LINES ? this->k + row * A::P + line * LINE
                              : this->v + row * A::PV + (line - K_LINES) * LINE);
    }
  }

  // The first rounds of the block.
  __device__ __forceinline__ void prefetch_first(const Span& span) const {
    prefetch_some(span, span.from, A::AHEAD, threadIdx.x, A::THREADS);
  }

  __device__ __forceinline__ void load_queries(float (&to)[A::QUERIES][8]) const {
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        const Q* from = this->q + Base::row_of(i) * A::P + (own < A::P ? own + j : 0);
        float4 v = load_4(from);
        float factor = own < A::P ? this->scale * LOG2_E : 0;
        to[i][j] = v.x * factor, to[i][j + 1] = v.y * factor;
        to[i][j + 2] = v.z * factor, to[i][j + 3] = v.w * factor;
      }
    }
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
        to[i][u] = first + u * A::AT_ONCE < span.to ? sum : -__int_as_float(0x7f800000);
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
      to.keys[u].load(this->k + row * A::P + key);
      to.values[u].load(this->v + row * A::PV + value);
    }
  }

  // Takes in this warp's positions, of which the first are there but for the new one.
  __device__ __forceinline__ void walk(typename A::Left& to, Positions& some,
                                       const Span& span) const {
    Softmaxes<A::QUERIES> all;
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
      all.top[i] = -1e30f, all.sum[i] = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) all.value[i][j] = 0;
    }
    float queries[A::QUERIES][8];
    load_queries(queries);
    int least = span.past;
    for (int at = Base::first(span); at < span.to; at += A::PART_MIN, least = 0) {
      prefetch_some(span, at + A::AHEAD, A::POSITIONS, lane, 32);
      load(some, at, least, span);
      float scores[A::QUERIES][A::UNROLLED];
      score(scores, queries, some.keys, at + lane / A::LANES, span);
      take(all, scores, some.values);
      some = {};  // so that it takes no registers until then
    }
    put(to, all);
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

  // Leaves this warp's sums.
  __device__ __forceinline__ void put(typename A::Left& to, Softmaxes<A::QUERIES>& all) const {
    add_lanes(all);
#pragma unroll
    for (int i = 0; i < A::QUERIES; ++i) {
      if (lane == 0) to.sums[warp][i] = {all.top[i], all.sum[i]};
      const float* v = all.value[i];
      if (lane < A::LANES && own < A::PV) {
        float4* values = (float4*)&to.values[warp][i][own];
        values[0] = {v[0], v[1], v[2], v[3]};
        values[1] = {v[4], v[5], v[6], v[7]};
      }
    }
  }
};
