// What kernels share that compute attention of a new position to a cache that is cut into parts:
//
//   y[h, g] = sum over t of softmax(scale q[h, g] . k[t, h]) v[t, h]
//
// q is [HEADS, GROUP, P]; the caches are k [.., HEADS, P] and v [.., HEADS, PV]; y is [HEADS, GROUP,
// PV]. `length` positions came before; the new one sees those and itself (its own key and value are
// in the cache), and with a WINDOW above 0 only the nearest WINDOW of them.
//
// The queries of a head are taken QUERIES at a time. The cache of each such set is cut into at most
// PARTS parts of equal length, a block each; a short cache has fewer, and blocks without one end at
// once, so that one launch serves every length. Each warp of a block keeps a softmax of its own
// positions; the block adds those up, and the last block those of the parts, always in the same
// order.
//
// `length` and what the cache has of earlier positions are read before earlier kernels have ended:
// none of the same graph may write them, or who launches waits before. What lies there for the new
// position may be read too, and is read again; never by way of L1, which might keep it.
#pragma once
#include "last.cuh"
#include "numbers.cuh"

template <int HEADS_, int GROUP_, int P_, int PV_, int WINDOW_, int PARTS_, int WARPS_, int MOST>
struct AttentionParts {
  static constexpr int HEADS = HEADS_, GROUP = GROUP_, P = P_, PV = PV_;
  static constexpr int WINDOW = WINDOW_, PARTS = PARTS_;
  static constexpr int WARPS = WARPS_, THREADS = 32 * WARPS;
  static constexpr int QUERIES = GROUP < MOST ? GROUP : MOST;
  static constexpr int SETS = (GROUP + QUERIES - 1) / QUERIES;

  static constexpr int BLOCKS = HEADS * SETS * PARTS, LEFT = BLOCKS * QUERIES;
  // Four values of a query are a thread's, or two threads' where there are enough of them; each
  // adds so many parts at once.
  static constexpr int SLOTS = QUERIES * PV / 4, GROUPS = 2 * SLOTS <= THREADS ? 2 : 1;
  static constexpr int FEW = (PARTS + GROUPS - 1) / GROUPS, ADDED = FEW < 18 ? FEW : 18;
  // What a launch needs besides: floats of scratch, four of which are read at once, and counters
  // that are zero.
  static constexpr int SCRATCH = (LEFT * (PV + 2) + 3) / 4 * 4, COUNTERS = HEADS * SETS;

  // What warps leave: their largest scores (in base 2), the sums of the exponentials less those,
  // and of values times these. Rows are 32 bytes further apart, for fewer conflicts.
  struct Left {
    float2 sums[WARPS][QUERIES];
    alignas(16) float values[WARPS][QUERIES][PV + 8];
  };
};

// The softmax of a query, and four of its values.
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
struct AttentionPart {
  const Q* q;
  const C *k, *v;
  const int* length;
  float scale;
  Out* y;
  float* scratch;
  u32* counters;
  int part, set, head;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  // The positions of this part.
  struct Span {
    int past, from, to, parts;
  };

  __device__ __forceinline__ Span span() const {
    int past = __ldcg(length), first = A::WINDOW > 0 ? max(0, past + 1 - A::WINDOW) : 0;
    int size = max((past + 1 - first + A::PARTS - 1) / A::PARTS, A::PART_MIN);
    int from = first + part * size;
    return {past, from, min(from + size, past + 1), (past - first + size) / size};
  }

  // This warp's first positions.
  __device__ __forceinline__ int first(const Span& span) const {
    return span.from + warp * A::POSITIONS;
  }

  // Brings what a block reads first to L2, where that is faster.
  __device__ __forceinline__ void prefetch_first(const Span&) const {}

  // The row of query i of this set; past the last, the last.
  __device__ __forceinline__ u64 row_of(int i) const {
    return head * A::GROUP + min(set * A::QUERIES + i, A::GROUP - 1);
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
    if (set * A::QUERIES + i >= A::GROUP) return;
    Out* to = y + row_of(i) * A::PV + d;
    float4 v = four.value;
    to[0] = from_float<Out>(v.x / four.sum), to[1] = from_float<Out>(v.y / four.sum);
    to[2] = from_float<Out>(v.z / four.sum), to[3] = from_float<Out>(v.w / four.sum);
  }

  // Adds up what the warps have left; stores the result, or leaves it if there are more parts.
  __device__ __forceinline__ void leave(const typename A::Left& all, int parts) const {
    __syncthreads();
    for (int at = threadIdx.x * 4; at < A::QUERIES * A::PV; at += A::THREADS * 4) {
      int i = at / A::PV, d = at % A::PV;
      Four four;
      float2 its[A::WARPS];
      float4 v[A::WARPS];
#pragma unroll
      for (int w = 0; w < A::WARPS; ++w)
        its[w] = all.sums[w][i], v[w] = *(const float4*)&all.values[w][i][d];
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

  // What follows when all warps have left their sums in `all`.
  __device__ __forceinline__ void finish(const typename A::Left& all, int parts) const {
    leave(all, parts);
    if (parts > 1 && is_last_block(counters + head * A::SETS + set, parts)) combine(parts);
  }
};

// `block` of A::BLOCKS; `scratch` of A::SCRATCH and `counters` of A::COUNTERS. A Block derives from
// AttentionPart and has Positions, `load`s a warp's first ones, and `walk`s through all of a warp's,
// whose sums it leaves.
template <template <class, class, class, class> class Block, class A, class Q, class C, class Out>
__device__ __forceinline__ void attend(const Q* q, const C* k, const C* v, const int* length,
                                       float scale, Out* y, float* scratch, u32* counters,
                                       int block) {
  const int set = block / A::PARTS;
  const Block<A, Q, C, Out> it{{q, k, v, length, scale, y, scratch, counters, block % A::PARTS,
                                set % A::SETS, set / A::SETS}};
  __shared__ typename A::Left left;
  const auto mine = it.span();
  typename Block<A, Q, C, Out>::Positions some;
  if (it.first(mine) < mine.to) it.load(some, it.first(mine), 0, mine);
  it.prefetch_first(mine);
  let_later_start();
  wait_for_earlier();
  if (it.part >= mine.parts) return;
  it.walk(left, some, mine);
  it.finish(left, mine.parts);
}
