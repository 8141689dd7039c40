// Norms, softmax and look-ups: one block works on one row at a time.
#pragma once
#include "base.cuh"
#include "softmax.cuh"

// y = x * rsqrt(mean(x * x) + eps) * weight, for `n` rows of `WIDTH`.
template <int WIDTH, int THREADS, class X, class Y>
__device__ void rms_norm(Y* y, const X* x, const float* weight, long n, float eps) {
  __shared__ float shared[THREADS / 32];
  for (long row = blockIdx.x; row < n; row += gridDim.x) {
    const X* from = x + row * WIDTH;
    float squares = 0;
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) squares += wide(from[i]) * wide(from[i]);
    float scale = 1.0f / sqrtf(block_sum<THREADS>(squares, shared) / WIDTH + eps);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS)
      put(y + row * WIDTH + i, wide(from[i]) * scale * weight[i]);
  }
}

// y = (x - mean(x)) * rsqrt(variance(x) + eps) * weight + bias.
template <int WIDTH, int THREADS, class X, class Y>
__device__ void layer_norm(Y* y, const X* x, const float* weight, const float* bias, long n, float eps) {
  __shared__ float shared[THREADS / 32];
  for (long row = blockIdx.x; row < n; row += gridDim.x) {
    const X* from = x + row * WIDTH;
    float sum = 0;
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) sum += wide(from[i]);
    float mean = block_sum<THREADS>(sum, shared) / WIDTH;
    float squares = 0;
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
      float apart = wide(from[i]) - mean;
      squares += apart * apart;
    }
    float scale = 1.0f / sqrtf(block_sum<THREADS>(squares, shared) / WIDTH + eps);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS)
      put(y + row * WIDTH + i, (wide(from[i]) - mean) * scale * weight[i] + bias[i]);
  }
}

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
