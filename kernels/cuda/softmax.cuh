// Softmax of rows: y[row, k] = exp(x[k] - largest) / sum, of x = in(row, k).
//
// A block of THREADS takes a row of `size` numbers, which it reads three times.
#pragma once
#include "norm.cuh"

template <int THREADS, class In, class Out>
__device__ __forceinline__ void softmax(const In& in, Out* y, int size, int row) {
  __shared__ float shared[THREADS / 32];
  let_later_start();
  wait_for_earlier();
  float top = -__int_as_float(0x7f800000), sum = 0;
  for (int k = threadIdx.x; k < size; k += THREADS) top = fmaxf(top, in(row, k));
  top = block_max<THREADS>(top, shared);
  for (int k = threadIdx.x; k < size; k += THREADS) sum += expf(in(row, k) - top);
  float factor = 1 / block_sum<THREADS>(sum, shared);
  for (int k = threadIdx.x; k < size; k += THREADS)
    y[(u64)row * size + k] = from_float<Out>(expf(in(row, k) - top) * factor);
}
