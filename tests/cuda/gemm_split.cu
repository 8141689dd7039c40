// gemm_split.cuh: several results, two products, odd extents, parts of K.
#include "gemm_split.cuh"
#include "gemm_tails.h"

template <int PARTS, int K, int N0, int N1>
__global__ void __cluster_dims__(PARTS, 1, 1) __launch_bounds__(SPLIT_THREADS)
    instance(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w0,
             const __grid_constant__ TensorMap w1, const __grid_constant__ TensorMap w2, int rows,
             float* y0, bf16* y1) {
  SHARED(u8, shared);
  const auto plain = result<N0, N0>(&w0, y0, Plain{});
  if constexpr (PARTS <= 2)
    gemm_split<PARTS, K>(shared, x, rows, plain, result<N1, N1>(&w1, &w2, y1, Product{}));
  else gemm_split<PARTS, K>(shared, x, rows, plain, result<N1, N1>(&w1, y1, Plain{}));
}

template <int PARTS, int K, int N0, int N1>
void test(int rows) {
  Array<bf16> x(rows * K, 1), w0(N0 * K, 0.1), w1(N1 * K, 0.1), w2(N1 * K, 0.1);
  Array<float> y0(rows * N0);
  Array<bf16> y1(rows * N1);
  const auto map = [](const Array<bf16>& m, int n) { return tensor_map(m.device, n, K, 64); };
  const auto dot = [&](const Array<bf16>& w, int row, int column) {
    double sum = 0;
    for (int k = 0; k < K; ++k) sum += x[row * K + k] * w[column * K + k];
    return sum;
  };
  const unsigned products = PARTS <= 2 ? 2 : 1,
                 tiles = (N0 + 127) / 128 + (products * N1 + 127) / 128;
  launch_clusters(PARTS, instance<PARTS, K, N0, N1>,
                  dim3(tiles * PARTS, (rows + 63) / 64), SPLIT_THREADS, SPLIT_SHARED, map(x, rows),
                  map(w0, N0), map(w1, N1), map(w2, N1), rows, y0.device, y1.device);
  y0.fetch(), y1.fetch();
  printf("%d rows, %d parts\n", rows, PARTS);
  check("  f32", error(y0, rows, N0, N0, [&](int r, int c) { return dot(w0, r, c); }), 1e-5);
  check("  bf16",
        error(y1, rows, N1, N1,
              [&](int r, int c) { return dot(w1, r, c) * (products == 2 ? dot(w2, r, c) : 1); }),
        5e-3);
}

int main() {
  test<1, 328, 200, 72>(33);
  test<1, 64, 40, 64>(70);
  test<2, 328, 136, 72>(33);
  test<4, 200, 136, 72>(70);
#ifdef __CUDACC__
  test<2, 1096, 200, 72>(33);
  test<4, 1480, 300, 256>(64);
#endif
  return failures != 0;
}
