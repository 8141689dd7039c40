// Look-ups, a block for each row, and rounding.
#pragma once
#include "base.cuh"

// Rows of a table of `rows` rows; zeros for those that it does not have.
template <int THREADS, class W>
__device__ void gather(float* y, W table, const int* index, long n, int rows, int width) {
  for (long i = blockIdx.x; i < n; i += gridDim.x) {
    int row = index[i];
    for (int j = threadIdx.x; j < width; j += THREADS)
      y[i * width + j] = (unsigned)row < (unsigned)rows ? table(row, j) : 0.0f;
  }
}

// Rounds `n` numbers.
template <int THREADS, class Y, class X>
__device__ void narrow(Y* y, const X* x, long n) {
  long stride = (long)gridDim.x * THREADS;
  for (long i = (long)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) put(y + i, wide(x[i]));
}
