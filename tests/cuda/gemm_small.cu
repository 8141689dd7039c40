// gemm_small.cuh: types, odd extents, two products, results that share their code.
#include "gemm_small.cuh"
#include "gemm_tails.h"

template <class X, class T, int K, int N0, int N1>
__global__ void __launch_bounds__(SMALL_THREADS)
    instance(const X* x, int rows, const T* w0, const T* w1, const T* w2, float* y0, T* y1,
             float* y2) {
  gemm_small<T, K>(x, rows, result<N0, N0>(w0, y0, Plain{}),
                   result<N1, N1 + N0 % 2>(w1, y2, Plain{}),
                   result<N1, N1>(w1, w2, y1, Product{}));
}

template <class X, class T, int K, int N0, int N1>
void test(const char* name, int rows) {
  Array<X> x(rows * K, 1);
  Array<T> w0(N0 * K, 0.1), w1(N1 * K, 0.1), w2(N1 * K, 0.1), y1(rows * N1);
  const int stride = N1 + N0 % 2;
  Array<float> y0(rows * N0), y2(rows * stride);
  const auto dot = [&](const Array<T>& w, int row, int column) {
    double sum = 0;
    for (int k = 0; k < K; ++k) sum += x[row * K + k] * w[column * K + k];
    return sum;
  };
  const unsigned tiles = (N0 + 63) / 64 + (N1 + 63) / 64 + (2 * N1 + 63) / 64;
  launch(instance<X, T, K, N0, N1>, dim3(tiles, (rows + 63) / 64), SMALL_THREADS, 0,
         (const X*)x.device, rows, (const T*)w0.device, (const T*)w1.device, (const T*)w2.device,
         y0.device, y1.device, y2.device);
  y0.fetch(), y1.fetch(), y2.fetch();
  printf("%s, %d rows\n", name, rows);
  const double rounded = sizeof(X) == 4 ? 4e-3 : 1e-6;
  check("  f32", error(y0, rows, N0, N0, [&](int r, int c) { return dot(w0, r, c); }), rounded);
  check("  f32 beside it",
        error(y2, rows, N1, stride, [&](int r, int c) { return dot(w1, r, c); }), rounded);
  check("  two products",
        error(y1, rows, N1, N1, [&](int r, int c) { return dot(w1, r, c) * dot(w2, r, c); }), 8e-3);
}

template <int K, int N, int FIRST, int STRIDE>
__global__ void __launch_bounds__(SMALL_THREADS)
    between(const bf16* x, int rows, const bf16* w, bf16* y) {
  gemm_small<bf16, K>(x, rows, result<N, STRIDE, FIRST>(w, y + FIRST, Plain{}));
}

// Columns that begin where no 16 bytes do, between others that stay as they are.
template <int K, int N, int FIRST, int STRIDE>
void test_between(int rows) {
  Array<bf16> x(rows * K, 1), w(N * K, 0.1), y(rows * STRIDE, 1);
  const std::vector<bf16> before = y.host;
  launch(between<K, N, FIRST, STRIDE>, dim3((N + 63) / 64, (rows + 63) / 64), SMALL_THREADS, 0,
         (const bf16*)x.device, rows, (const bf16*)w.device, y.device);
  y.fetch();
  check("between others", error(y, rows, STRIDE, STRIDE, [&](int r, int c) {
          if (c < FIRST || c >= FIRST + N) return double(float(before[r * STRIDE + c]));
          double sum = 0;
          for (int k = 0; k < K; ++k) sum += x[r * K + k] * w[(c - FIRST) * K + k];
          return sum;
        }), 4e-3);
}

int main() {
  test_between<64, 8, 12, 32>(33);
  test<bf16, bf16, 40, 70, 40>("bf16", 65);
  test<float, bf16, 72, 33, 35>("f32 by bf16", 7);
  test<f16, f16, 136, 3, 64>("f16", 100);
  test<float, f16, 64, 129, 8>("f32 by f16", 20);
  return failures != 0;
}
