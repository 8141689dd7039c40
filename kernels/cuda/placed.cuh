// Where the rows of a result go: one after the other, or each behind what a sequence of its own has
// in a state.
#pragma once
#include "ptx.cuh"

// Row r goes to `first`, `pitch` bytes on for each sequence before it and `step` for each of the
// past[r] positions that its own sequence has.
template <class T>
struct Placed {
  char* first;
  long step, pitch;
  const long* past;
  __device__ __forceinline__ T* operator()(int row) const {
    return (T*)(first + row * pitch + past[row] * step);
  }
};

// The same from column `n` on.
template <class T>
__device__ __forceinline__ Placed<T> operator+(const Placed<T>& y, int n) {
  return {y.first + n * sizeof(T), y.step, y.pitch, y.past};
}

template <class T>
__device__ __forceinline__ T* row_of(T* y, int row, int stride) {
  return y + (size_t)row * stride;
}
template <class T>
__device__ __forceinline__ T* row_of(const Placed<T>& y, int row, int) {
  return y(row);
}

// The type of what goes to a Y.
template <class Y>
struct Elements;
template <class T>
struct Elements<T*> {
  using Type = T;
};
template <class T>
struct Elements<Placed<T>> {
  using Type = T;
};
template <class Y>
using ElementOf = typename Elements<Y>::Type;
