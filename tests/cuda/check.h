// What tests of kernels share: arrays with random numbers or poison, launches, tensor maps, and
// errors against f64. The same test runs on the CPU (g++ with shim/) and on a GPU (nvcc).
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "hopper.cuh"

#ifdef __CUDACC__
#include <cuda.h>

inline void must(int code, const char* what) {
  if (code != 0) {
    fprintf(stderr, "%s: error %d\n", what, code);
    exit(1);
  }
}
#define MUST(call) must((int)(call), #call)

inline void* device_allocate(size_t bytes) {
  void* p;
  MUST(cudaMalloc(&p, bytes));
  return p;
}
inline void device_free(void* p) { MUST(cudaFree(p)); }
inline void device_copy(void* to, const void* from, size_t bytes) {
  MUST(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
            Arguments... arguments) {
  MUST(cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                            (int)shared));
  kernel<<<grid, block, shared>>>(arguments...);
  MUST(cudaGetLastError());
  MUST(cudaDeviceSynchronize());
}
// The same of a kernel with clusters of so many blocks, which says so itself.
template <class... Parameters, class... Arguments>
void launch_clusters(unsigned, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                     Arguments... arguments) {
  launch(kernel, grid, block, shared, arguments...);
}

inline TensorMap tensor_map(const void* data, int element, u64 columns, u64 rows, u64 layers,
                            u64 row_bytes, u64 layer_bytes, u32 box_columns, u32 box_rows) {
  static void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (!encode) {
    MUST(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000,
                                          cudaEnableDefault, &found));
  }
  const CUtensorMapDataType type =
      element == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const cuuint64_t extent[] = {columns, rows, layers}, stride[] = {row_bytes, layer_bytes};
  const cuuint32_t box[] = {box_columns, box_rows, 1}, step[] = {1, 1, 1};
  TensorMap m;
  MUST(((decltype(&cuTensorMapEncodeTiled))encode)(
      (CUtensorMap*)&m, type, layers > 1 ? 3 : 2, (void*)data, extent, stride, box, step,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return m;
}

#else

inline void* device_allocate(size_t bytes) { return aligned_alloc(256, (bytes + 255) / 256 * 256); }
inline void device_free(void* p) { free(p); }
inline void device_copy(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }

template <class... Parameters, class... Arguments>
void launch_clusters(unsigned blocks, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                     size_t shared, Arguments... arguments) {
  shim::launch(grid, block, shared, [=] { kernel(arguments...); }, blocks);
}
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
            Arguments... arguments) {
  launch_clusters(1, kernel, grid, block, shared, arguments...);
}

inline TensorMap tensor_map(const void* data, int element, u64 columns, u64 rows, u64 layers,
                            u64 row_bytes, u64 layer_bytes, u32 box_columns, u32 box_rows) {
  return {(const u8*)data,
          (u32)element,
          {(u32)columns, (u32)rows, (u32)layers},
          {row_bytes, layer_bytes},
          {box_columns, box_rows, 1},
          1};
}

#endif

// A matrix [rows, columns] by boxes of 128 bytes a row.
template <class T>
TensorMap tensor_map(const T* data, u64 rows, u64 columns, u32 box_rows) {
  return tensor_map(data, sizeof(T), columns, rows, 1, columns * sizeof(T), 0, 128 / sizeof(T),
                    box_rows);
}

// The column that arrange.cuh puts at a place, for numbers of so many bytes.
inline int arranged_column(int bytes, int place) {
  const int each = 4 / bytes, j = place % 32 / (4 * each), t = place % (4 * each) / each;
  const int order[] = {2, 0, 3, 1};
  const int e = bytes == 1 ? order[place % 4] : place % 2;
  return place / 32 * 32 + 8 * t + each * j + e;
}

// Normally distributed, the same in every run.
inline double normal() {
  static u64 state = 0x9e3779b97f4a7c15;
  double sum = -6;
  for (int i = 0; i < 12; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    sum += double(state >> 11) / double(1ull << 53);
  }
  return sum;
}

// An array here and on the device.
template <class T>
struct Array {
  std::vector<T> host;
  T* device;

  explicit Array(size_t size) : host(size), device((T*)device_allocate(size * sizeof(T))) {
    memset((void*)host.data(), 0xff, size * sizeof(T));  // poison: NaN
    send();
  }
  Array(size_t size, double deviation) : Array(size) {
    for (T& x : host) x = T(float(normal() * deviation));
    send();
  }
  Array(const Array&) = delete;
  ~Array() { device_free(device); }

  void send() { device_copy(device, host.data(), host.size() * sizeof(T)); }
  void fetch() { device_copy(host.data(), device, host.size() * sizeof(T)); }
  double operator[](size_t i) const { return double(float(host[i])); }
};

// The largest row-wise |got - want| / |want| of what `want(row, column)` says; NaN counts as
// infinite.
template <class T, class Want>
double error(const Array<T>& got, int rows, int columns, int stride, Want want) {
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    double difference = 0, size = 0;
    for (int c = 0; c < columns; ++c) {
      const double w = want(r, c), d = got[(size_t)r * stride + c] - w;
      difference += d * d, size += w * w;
    }
    const double e = std::sqrt(difference / (size > 0 ? size : 1));
    worst = e >= 0 && worst >= 0 ? std::fmax(worst, e) : INFINITY;
  }
  return worst;
}

inline int failures = 0;

// Prints a line, and counts a failure where the error is above what is allowed.
inline void check(const char* what, double error, double allowed) {
  const bool good = error <= allowed;
  printf("%-48s %.2e%s\n", what, error, good ? "" : " FAILED");
  failures += !good;
}
