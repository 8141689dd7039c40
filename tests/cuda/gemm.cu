// gemm.cuh: several results, two products, tails, odd extents.
#include "gemm.cuh"
#include "gemm_tails.h"

struct AddTo {
  const float* residual;
  int stride;
  __device__ float2 operator()(int row, int col, float2 p, float2) const {
    const float* r = residual + (size_t)row * stride + col;
    return make_float2(p.x + r[0], p.y + r[1]);
  }
};

template <int WIDTH, int BLOCKS, int K, int N0, int N1, int N2>
__global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(GEMM_THREADS, 1)
    instance(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w0,
             const __grid_constant__ TensorMap w1, const __grid_constant__ TensorMap w2,
             const __grid_constant__ TensorMap w3, int rows, bf16* y0, float* y1, bf16* y2,
             const float* residual) {
  SHARED(u8, shared);
  gemm<WIDTH, 3, BLOCKS, K>(shared, x, rows, result<N0, N0>(&w0, y0, Plain{}),
                                   result<N1, N1 + 2>(&w1, y1, AddTo{residual, N1}),
                                   result<N2, N2 + 6>(&w2, &w3, y2, Product{}));
}

double dot(const Array<bf16>& x, const Array<bf16>& w, int k, int row, int column) {
  double sum = 0;
  for (int i = 0; i < k; ++i) sum += x[(size_t)row * k + i] * w[(size_t)column * k + i];
  return sum;
}

template <int WIDTH, int BLOCKS, int K, int N0, int N1, int N2>
void test(int rows, int blocks) {
  const int capacity = rows + 5;
  Array<bf16> x((size_t)capacity * K, 1), w0(N0 * K, 0.1), w1(N1 * K, 0.1), w2(N2 * K, 0.1),
      w3(N2 * K, 0.1);
  Array<bf16> y0(capacity * N0), y2(capacity * (N2 + 6));
  Array<float> y1(capacity * (N1 + 2)), residual(rows * N1, 1);
  const auto map = [](const Array<bf16>& w, int n) { return tensor_map(w.device, n, K, WIDTH / 2); };
  launch_clusters(BLOCKS, instance<WIDTH, BLOCKS, K, N0, N1, N2>, blocks, GEMM_THREADS,
                  gemm_shared<WIDTH, 3>, tensor_map(x.device, capacity, K, GEMM_ROWS), map(w0, N0),
                  map(w1, N1), map(w2, N2), map(w3, N2), rows, y0.device, y1.device, y2.device,
                  (const float*)residual.device);
  y0.fetch(), y1.fetch(), y2.fetch();
  printf("%d rows, width %d, cluster of %d\n", rows, WIDTH, BLOCKS);
  check("  bf16", error(y0, rows, N0, N0, [&](int r, int c) { return dot(x, w0, K, r, c); }), 4e-3);
  check("  f32 with residual",
        error(y1, rows, N1, N1 + 2,
              [&](int r, int c) { return dot(x, w1, K, r, c) + residual[r * N1 + c]; }),
        1e-5);
  check("  two products",
        error(y2, rows, N2, N2 + 6,
              [&](int r, int c) { return dot(x, w2, K, r, c) * dot(x, w3, K, r, c); }),
        5e-3);
  double beyond = 0;
  for (int i = rows * N0; i < capacity * N0; ++i) beyond += !std::isnan(y0[i]);
  check("  written beyond the last row", beyond, 0);
}

int main() {
  test<256, 1, 200, 264, 70, 136>(150, 2);
  test<128, 1, 64, 128, 64, 64>(17, 3);
  test<64, 1, 328, 40, 34, 48>(129, 2);
  test<128, 2, 200, 136, 70, 48>(150, 4);
#ifdef __CUDACC__
  test<256, 2, 520, 1032, 70, 136>(700, 6);
  test<128, 2, 520, 1032, 70, 136>(100, 6);
#endif
  return failures != 0;
}
