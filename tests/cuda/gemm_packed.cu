// gemm_packed.cuh: every format of weights, one product and two, rows and columns that fill no
// tile, x in bf16 and in FP8.
#include "gemm_packed.cuh"
#include "gemm_tails.h"
#include "packed.h"
#include "tails.cuh"

// Three results: of one product in f32 and in bf16, of two in bf16.
template <class Tiles, int ROWS, int BLOCKS, class W, class V, int N0, int N1>
__global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(GEMM_THREADS, 1)
    instance(const __grid_constant__ TensorMap x, W w0, V w1, W w2, W w3, int rows,
             const float* scales, float* y0, bf16* y1, bf16* y2) {
  SHARED(u8, shared);
  if constexpr (Tiles::BYTES == 2)
    gemm_packed<Tiles, ROWS, BLOCKS>(shared, x, rows, packed_result<N0, N0>(w0, y0, Plain{}),
                             packed_result<N1, N1>(w1, y1, Plain{}),
                             packed_result<N1, N1 + 6>(w2, w3, y2, Product{}));
  else
    gemm_packed<Tiles, ROWS, BLOCKS>(
        shared, x, rows, result<N0, N0>(w0, y0, scaled(Plain{}, scales, w0.scales, w0.scales)),
        result<N1, N1>(w1, y1, scaled(Plain{}, scales, w1.scales, w1.scales)),
        result<N1, N1 + 6>(w2, w3, y2, scaled(Product{}, scales, w2.scales, w3.scales)));
}

template <class Tiles, int ROWS, int BLOCKS, class W, class V, int N0, int N1>
void test(const char* name, Format first, Format other, int rows, int blocks) {
  using X = std::conditional_t<Tiles::BYTES == 2, bf16, __nv_fp8_e4m3>;
  constexpr int K = W::COLUMNS, capacity_more = 3;
  const bool in_fp8 = Tiles::BYTES == 1;
  const int capacity = rows + capacity_more;
  Array<X> x(capacity * K, 1), ordered(capacity * arranged_width(K));
  Array<float> scales(rows, 1), y0(capacity * N0);
  Array<bf16> y1(capacity * N1), y2(capacity * (N1 + 6));
  const PackedMatrix w0(first, N0, K), w1(other, N1, K), w2(first, N1, K), w3(first, N1, K);
  arrange_rows(ordered, x, capacity, K);
  const auto map = tensor_map(ordered.device, capacity, arranged_width(K), ROWS / BLOCKS);
  launch_clusters(BLOCKS, instance<Tiles, ROWS, BLOCKS, W, V, N0, N1>, blocks, GEMM_THREADS,
                  packed_shared<Tiles, ROWS, W, V>, map, weights<W>(w0), weights<V>(w1),
                  weights<W>(w2), weights<W>(w3), rows, (const float*)scales.device, y0.device,
                  y1.device, y2.device);
  y0.fetch(), y1.fetch(), y2.fetch();
  const auto dot = [&](const PackedMatrix& w, int row, int column) {
    double sum = 0;
    for (int k = 0; k < K; ++k) sum += x[row * K + k] * w.values[(size_t)column * K + k];
    return in_fp8 ? sum * scales[row] : sum;
  };
  printf("%s, %d rows in tiles of %d, cluster of %d\n", name, rows, ROWS, BLOCKS);
  check("  f32", error(y0, rows, N0, N0, [&](int r, int c) { return dot(w0, r, c); }),
        in_fp8 ? 2e-3 : 1e-5);
  check("  bf16", error(y1, rows, N1, N1, [&](int r, int c) { return dot(w1, r, c); }), 4e-3);
  check("  two products",
        error(y2, rows, N1, N1 + 6, [&](int r, int c) { return dot(w2, r, c) * dot(w3, r, c); }),
        8e-3);
  double beyond = 0;
  for (int i = rows * N0; i < capacity * N0; ++i) beyond += !std::isnan(y0[i]);
  for (int i = rows * N1; i < capacity * N1; ++i) beyond += !std::isnan((float)y1[i]);
  check("  written beyond the last row", beyond, 0);
}

template <class W, int ROWS, int BLOCKS, int N0, int N1>
void test_one(const char* name, Format format, int rows, int blocks) {
  test<Bf16Tiles, ROWS, BLOCKS, W, W, N0, N1>(name, format, format, rows, blocks);
}
template <int K, int ROWS, int BLOCKS, int N0, int N1>
void test_in_fp8(int rows, int blocks) {
  test<E4m3Tiles, ROWS, BLOCKS, Fp8<K>, Fp8<K>, N0, N1>("fp8 in fp8", Format::FP8, Format::FP8, rows,
                                                blocks);
}

int main() {
  test_one<Nvfp4<200>, 256, 1, 264, 72>("nvfp4", Format::NVFP4, 150, 2);
  test_one<Q8_0<224>, 256, 1, 40, 24>("q8_0", Format::Q8_0, 33, 2);
  test_one<Q4_0<160>, 128, 1, 40, 24>("q4_0", Format::Q4_0, 33, 2);
  test<Bf16Tiles, 128, 1, Q4_0<160>, Q8_0<160>, 40, 24>("q4_0 and q8_0", Format::Q4_0, Format::Q8_0,
                                                        33, 2);
  test_in_fp8<592, 128, 1, 136, 72>(150, 4);
#ifdef __CUDACC__
  test_one<Nvfp4<1096>, 256, 1, 1032, 264>("nvfp4", Format::NVFP4, 700, 5);
  test_in_fp8<1040, 128, 1, 1032, 264>(700, 132);
#endif
  // For racecheck, only blocks that are no clusters: it does not see copies that other blocks make.
  if (ARRIVING_LANES > 1) return failures != 0;
  test_one<Fp8<200>, 128, 2, 136, 24>("fp8", Format::FP8, 70, 2);
  test_one<Nvfp4<648>, 128, 2, 40, 136>("nvfp4", Format::NVFP4, 17, 4);
  test_one<Q4_1<160>, 256, 2, 40, 24>("q4_1", Format::Q4_1, 33, 2);
  test_in_fp8<208, 256, 2, 264, 72>(150, 2);
#ifdef __CUDACC__
  test_one<Nvfp4<1096>, 256, 2, 1032, 264>("nvfp4", Format::NVFP4, 700, 6);
  test_one<Q4_1<1472>, 128, 2, 1032, 264>("q4_1", Format::Q4_1, 300, 6);
  test_in_fp8<1040, 256, 2, 1032, 264>(700, 6);
  test_in_fp8<1040, 128, 2, 1032, 264>(700, 132);
#endif
  return failures != 0;
}
