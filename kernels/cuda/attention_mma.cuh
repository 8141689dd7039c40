// Attention of a new position (attention_parts.cuh) by matrix units, which take 16 positions as
// rows and 8 queries as columns, with sums in f32.
//
// Queries and caches are bf16; weights of positions are rounded to it. P is a multiple of 32 and PV
// of 64, at most 128. Lane 4 g + t takes keys of positions g and g + 8, of each 32 numbers the 8
// from 8 t on, and values of positions 2 t, 2 t + 1, 2 t + 8 and 2 t + 9, of each 64 numbers the 8
// from 8 g on. So few instructions are left that the caches of 64 texts are read at 0.87 of the
// memory's speed, where the form with sums over lanes has 0.63. To bring later positions to L2
// beforehand makes it slower.
#pragma once
#include "attention_parts.cuh"

template <int HEADS, int GROUP, int P, int PV, int WINDOW, int PARTS>
struct AttentionMma : AttentionParts<HEADS, GROUP, P, PV, WINDOW, PARTS, 4, 8> {
  static constexpr int POSITIONS = 16, RUNS = P / 32, CHUNKS = PV / 64;
  static_assert(P % 32 == 0 && PV % 64 == 0, "lanes take whole pieces");
  static_assert(P <= 128 && PV <= 128, "registers are for so many");
  static constexpr int PART_MIN = 4 * POSITIONS;  // a round of the block
};

template <class A, class Q, class C, class Out>
struct AttentionMmaBlock;

template <class A, class Out>
struct AttentionMmaBlock<A, bf16, bf16, Out> : AttentionPart<A, bf16, bf16, Out> {
  using Base = AttentionPart<A, bf16, bf16, Out>;
  using typename Base::Span;
  using Base::lane, Base::warp, Base::head;

  // What a lane has of 16 positions.
  struct Positions {
    uint4 keys[A::RUNS][2], values[A::CHUNKS][4];
  };
  // Softmaxes of queries 2 t and 2 t + 1: the largest score, this lane's share of the sum, and of
  // each 64 numbers of the values the 8 from 8 g on: [.][m][2 i + j] is number 2 m + i of query j.
  struct Sums {
    float top[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};
    float value[A::CHUNKS][4][4] = {};
  };

  // Loads those of the positions from `at` on that are not before `least`.
  __device__ __forceinline__ void load(Positions& to, int at, int least, const Span& span) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int position = min(at + lane / 4 + 8 * i, span.to - 1);
      if (position < least) continue;
      const bf16* from = this->k + ((u64)position * A::HEADS + head) * A::P + lane % 4 * 8;
#pragma unroll
      for (int run = 0; run < A::RUNS; ++run)
        to.keys[run][i] = __ldcg((const uint4*)(from + run * 32));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = min(at + lane % 4 * 2 + i % 2 + i / 2 * 8, span.to - 1);
      if (position < least) continue;
      const bf16* from = this->v + ((u64)position * A::HEADS + head) * A::PV + lane / 4 * 8;
#pragma unroll
      for (int j = 0; j < A::CHUNKS; ++j)
        to.values[j][i] = __ldcg((const uint4*)(from + j * 64));
    }
  }

  // The weights of positions g and g + 8 for queries 2 t and 2 t + 1; what came before is rescaled.
  __device__ __forceinline__ void weigh(float (&to)[2][2], Sums& all, const Positions& some,
                                        const uint4 (&queries)[A::RUNS], int at,
                                        const Span& span) const {
    float scores[2][4] = {};
#pragma unroll
    for (int run = 0; run < A::RUNS; ++run) {
      const uint4 top = some.keys[run][0], bottom = some.keys[run][1], q = queries[run];
      mma_bf16(scores[0], {top.x, bottom.x, top.y, bottom.y}, {q.x, q.y});
      mma_bf16(scores[1], {top.z, bottom.z, top.w, bottom.w}, {q.z, q.w});
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float s[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        s[i] = (scores[0][2 * i + j] + scores[1][2 * i + j]) * (this->scale * LOG2_E);
        if (at + lane / 4 + 8 * i >= span.to) s[i] = -__int_as_float(0x7f800000);
      }
      float top = fmaxf(s[0], s[1]);
#pragma unroll
      for (int step = 4; step < 32; step *= 2)
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, step));
      top = fmaxf(top, all.top[j]);
      const float less = exp2f(all.top[j] - top);
      to[0][j] = exp2f(s[0] - top), to[1][j] = exp2f(s[1] - top);
      all.top[j] = top, all.sum[j] = all.sum[j] * less + to[0][j] + to[1][j];
#pragma unroll
      for (int i = 0; i < A::CHUNKS * 4; ++i) {
        float(&value)[4] = all.value[i / 4][i % 4];
        value[j] *= less, value[2 + j] *= less;
      }
    }
  }

  // Takes in values by their weights.
  static __device__ __forceinline__ void take(Sums& all, const float (&weights)[2][2],
                                              const Positions& some) {
    const u32 p[2] = {transposed(bf16_pair(weights[0][0], weights[0][1])),
                      transposed(bf16_pair(weights[1][0], weights[1][1]))};
#pragma unroll
    for (int j = 0; j < A::CHUNKS; ++j) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        u32 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint4& its = some.values[j][i];
          v[i] = m == 0 ? its.x : m == 1 ? its.y : m == 2 ? its.z : its.w;
        }
        mma_bf16(all.value[j][m],
                 {__byte_perm(v[0], v[1], 0x5410), __byte_perm(v[0], v[1], 0x7632),
                  __byte_perm(v[2], v[3], 0x5410), __byte_perm(v[2], v[3], 0x7632)},
                 p);
      }
    }
  }

  // Takes in this warp's positions, of which the first are there but for the new one.
  __device__ __forceinline__ void walk(typename A::Left& to, Positions& some,
                                       const Span& span) const {
    Sums all;
    uint4 queries[A::RUNS];
#pragma unroll
    for (int run = 0; run < A::RUNS; ++run)
      queries[run] =
          *(const uint4*)(this->q + Base::row_of(lane / 4) * A::P + run * 32 + lane % 4 * 8);
    int least = span.past;
    for (int at = Base::first(span); at < span.to; at += A::PART_MIN, least = 0) {
      load(some, at, least, span);
      float weights[2][2];
      weigh(weights, all, some, queries, at, span);
      take(all, weights, some);
      some = {};  // so that it takes no registers until then
    }
    put(to, all);
  }

  // Leaves this warp's sums.
  __device__ __forceinline__ void put(typename A::Left& to, const Sums& all) const {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int query = lane % 4 * 2 + j;
      float sum = all.sum[j];
#pragma unroll
      for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
      if (query >= A::QUERIES) continue;
      if (lane < 4) to.sums[warp][query] = {all.top[j], sum};
#pragma unroll
      for (int i = 0; i < A::CHUNKS * 2; ++i) {
        const float(&a)[4] = all.value[i / 2][i % 2 * 2], (&b)[4] = all.value[i / 2][i % 2 * 2 + 1];
        *(float4*)&to.values[warp][query][i / 2 * 64 + lane / 4 * 8 + i % 2 * 4] = {
            a[j], a[2 + j], b[j], b[2 + j]};
      }
    }
  }
};
