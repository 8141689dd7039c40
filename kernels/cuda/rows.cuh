// Softmax in place, look-ups and copies: one block works on one row at a time.
#pragma once
#include "base.cuh"
#include "softmax.cuh"

// Softmax of rows of `width`, which may stand where they are read.
template <int THREADS>
__device__ void softmax_rows(float* y, const float* x, long n, int width) {
  __shared__ float shared[THREADS / 32];
  for (long row = blockIdx.x; row < n; row += gridDim.x) {
    const float* from = x + row * width;
    float* to = y + row * width;
    float most = __int_as_float(0xff800000);
    for (int i = threadIdx.x; i < width; i += THREADS) most = fmaxf(most, from[i]);
    most = block_max<THREADS>(most, shared);
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) {
      float e = expf(from[i] - most);
      to[i] = e;
      sum += e;
    }
    float total = block_sum<THREADS>(sum, shared);
    for (int i = threadIdx.x; i < width; i += THREADS) to[i] = to[i] / total;
    __syncthreads();
  }
}

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
