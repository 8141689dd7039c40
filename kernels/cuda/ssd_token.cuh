// One position of the Mamba-2 recurrence: state = state exp(dt a) + x dt b, y = tail(sum of state
// c).
//
// H groups share b and c [H, N]; each has J heads with x [H, J, D], dt and a [H, J] in f32, and a state
// [H, J, D, N] in f32, which is read and written. A block takes a head; a warp takes rows of N,
// several at once; a lane takes 4 numbers in each 128 of a row. N is a multiple of 4. `float
// tail(head, d, y)` is stored as Out to y[head * D + d].
//
// States are too many for caches: what is read and written of them is not kept there. They are
// loaded before earlier kernels have ended: none of the same graph may write it.
#pragma once
#include "numbers.cuh"

template <int J_, int D_, int N_>
struct SsdToken {
  static constexpr int J = J_, D = D_, N = N_, WARPS = 8, THREADS = 32 * WARPS;
  static constexpr int PIECES = (N + 127) / 128;  // of 4 numbers a lane
  static constexpr int AT_ONCE = PIECES > 2 ? 2 : PIECES > 1 ? 4 : 10;
  static constexpr int ROUNDS = (D + WARPS * AT_ONCE - 1) / (WARPS * AT_ONCE);
};

template <class M>
struct SsdRows {
  float4 v[M::AT_ONCE][M::PIECES];

  static __device__ __forceinline__ int row(int round, int i) {
    return (round * M::AT_ONCE + i) * M::WARPS + threadIdx.x / 32;
  }
  static __device__ __forceinline__ int column(int piece) {
    return piece * 128 + threadIdx.x % 32 * 4;
  }
  static __device__ __forceinline__ bool inside(int round, int i, int piece) {
    return row(round, i) < M::D && column(piece) < M::N;
  }

  __device__ __forceinline__ void load(const float* state, int round) {
#pragma unroll
    for (int i = 0; i < M::AT_ONCE; ++i) {
#pragma unroll
      for (int piece = 0; piece < M::PIECES; ++piece)
        v[i][piece] = inside(round, i, piece)
                          ? __ldcs((const float4*)(state + row(round, i) * M::N + column(piece)))
                          : float4{0, 0, 0, 0};
    }
  }
};

template <class M, class T, class Out, class Tail>
__device__ __forceinline__ void ssd_token(const T* x, const float* dt, const float* a, const T* b,
                                          const T* c, float* states, const Tail& tail, Out* y,
                                          int head) {
  using Rows = SsdRows<M>;
  float* state = states + (u64)head * M::D * M::N;
  Rows rows;
  rows.load(state, 0);
  let_later_start();
  wait_for_earlier();
  float step = dt[head], decay = expf(step * a[head]);
  float4 in[M::PIECES], out[M::PIECES];
#pragma unroll
  for (int piece = 0; piece < M::PIECES; ++piece) {
    int n = Rows::column(piece), from = head / M::J * M::N + n;
    in[piece] = n < M::N ? load_4(b + from) : float4{0, 0, 0, 0};
    out[piece] = n < M::N ? load_4(c + from) : float4{0, 0, 0, 0};
  }
  for (int round = 0; round < M::ROUNDS; ++round) {
    if (round > 0) rows.load(state, round);
    float taken[M::AT_ONCE];
#pragma unroll
    for (int i = 0; i < M::AT_ONCE; ++i)
      taken[i] = to_float(x[head * M::D + min(Rows::row(round, i), M::D - 1)]) * step;
#pragma unroll
    for (int i = 0; i < M::AT_ONCE; ++i) {
      int d = Rows::row(round, i);
      if (d >= M::D) break;
      float sum = 0;
#pragma unroll
      for (int piece = 0; piece < M::PIECES; ++piece) {
        float4 v = rows.v[i][piece], p = in[piece], o = out[piece];
        v = {v.x * decay + taken[i] * p.x, v.y * decay + taken[i] * p.y,
             v.z * decay + taken[i] * p.z, v.w * decay + taken[i] * p.w};
        sum += v.x * o.x + v.y * o.y + v.z * o.z + v.w * o.w;
        if (Rows::inside(round, i, piece))
          __stcs((float4*)(state + d * M::N + Rows::column(piece)), v);
      }
      sum = warp_sum(sum);
      if (threadIdx.x % 32 == 0) y[head * M::D + d] = from_float<Out>(tail(head, d, sum));
    }
  }
}
