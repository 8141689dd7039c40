// Rows of a table: y[row, k] = tail(row, k, table[index[row], k]).
//
// The table [N, K] has rows as they are; an index outside of it is taken as the nearest inside. A
// thread takes a number: blocks are (columns, row).
#pragma once
#include "numbers.cuh"

template <int N, int K, class T, class Out, class Tail>
__device__ __forceinline__ void gather(const T* table, const int* index, const Tail& tail, Out* y) {
  int k = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  let_later_start();
  wait_for_earlier();
  if (k >= K) return;
  int from = min(max(index[row], 0), N - 1);
  y[(u64)row * K + k] = from_float<Out>(tail(row, k, to_float(table[(u64)from * K + k])));
}
