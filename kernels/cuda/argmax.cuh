// The place of the largest number of a row, the first of equal ones: y[row] of x [rows, V] in f32.
// What is no number is never the largest.
//
// PARTS blocks of THREADS take a part of a row each, and the last block the largest of the parts. A
// launch needs rows x PARTS of scratch and a counter a row, zero before and after.
#pragma once
#include "last.cuh"

struct Best {
  float value;
  int place;

  __device__ __forceinline__ void take(Best other) {
    if (other.value > value || (other.value == value && other.place < place)) *this = other;
  }
};

// The best over a block of 256 threads, in thread 0.
__device__ __forceinline__ Best block_best(Best best) {
  __shared__ Best shared[8];
  for (int step = 16; step > 0; step /= 2)
    best.take({__shfl_xor_sync(ALL_LANES, best.value, step),
               __shfl_xor_sync(ALL_LANES, best.place, step)});
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = best;
  __syncthreads();
  for (int i = 0; i < 8; ++i) best.take(shared[i]);
  return best;
}

template <int V, int PARTS>
__device__ __forceinline__ void argmax(const float* x, int* y, Best* scratch, u32* counters,
                                       int part, int row) {
  constexpr int THREADS = 256, SIZE = (V + PARTS - 1) / PARTS;
  const Best none{-__int_as_float(0x7f800000), part * SIZE < V ? part * SIZE : 0};
  let_later_start();
  wait_for_earlier();
  Best best = none;
  for (int i = part * SIZE + threadIdx.x; i < min(part * SIZE + SIZE, V); i += THREADS)
    best.take({x[(u64)row * V + i], i});
  best = block_best(best);
  if (threadIdx.x == 0) scratch[row * PARTS + part] = best;
  if (!is_last_block(counters + row, PARTS)) return;
  best = none;
  for (int i = threadIdx.x; i < PARTS; i += THREADS) {
    const Best* from = scratch + row * PARTS + i;
    best.take({__ldcg(&from->value), __ldcg(&from->place)});
  }
  best = block_best(best);
  if (threadIdx.x == 0) y[row] = best.place;
}
