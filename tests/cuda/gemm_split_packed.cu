// gemm_split_packed.cuh: every format of weights, one product and two, rows and columns that fill no
// tile, x in bf16 and in FP8.
#include "gemm_split_packed.cuh"
#include "gemm_tails.h"
#include "packed.h"
#include "tails.cuh"

template <class W, int PARTS, int N0, int N1>
__global__ void __cluster_dims__(PARTS, 1, 1) __launch_bounds__(SPLIT_PACKED_THREADS)
    instance(const __grid_constant__ TensorMap x, W w0, W w1, W w2, int rows, float* y0, bf16* y1) {
  SHARED(u8, shared);
  const auto plain = packed_result<N0, N0>(w0, y0, Plain{});
  if constexpr (PARTS <= 2)
    gemm_split_packed<Bf16Tiles, PARTS>(shared, x, rows, plain,
                                  packed_result<N1, N1>(w1, w2, y1, Product{}));
  else
    gemm_split_packed<Bf16Tiles, PARTS>(shared, x, rows, plain,
                                  packed_result<N1, N1>(w1, y1, Plain{}));
}

template <class T>
double dot(const Array<T>& x, const PackedMatrix& w, int row, int column) {
  double sum = 0;
  for (int k = 0; k < w.k; ++k) sum += x[row * w.k + k] * w.values[(size_t)column * w.k + k];
  return sum;
}

// Of the second result: two where sums are in no more parts than that.
constexpr int products(int parts) { return parts <= 2 ? 2 : 1; }

dim3 grid(int parts, int n0, int n1, int rows) {
  const unsigned tiles = (n0 + 127) / 128 + (products(parts) * n1 + 127) / 128;
  return dim3(tiles * parts, (rows + 63) / 64);
}

template <class W, int PARTS, int N0, int N1>
void test(const char* name, Format format, int rows) {
  constexpr int K = W::COLUMNS;
  Array<bf16> x(rows * K, 1), y1(rows * N1);
  Array<float> y0(rows * N0);
  const PackedMatrix w0(format, N0, K), w1(format, N1, K), w2(format, N1, K);
  Array<bf16> ordered(rows * arranged_width(K));
  arrange_rows(ordered, x, rows, K);
  launch_clusters(PARTS, instance<W, PARTS, N0, N1>, grid(PARTS, N0, N1, rows),
                  SPLIT_PACKED_THREADS, split_packed_shared<Bf16Tiles, W>,
                  tensor_map(ordered.device, rows, arranged_width(K), 64), weights<W>(w0),
                  weights<W>(w1), weights<W>(w2), rows, y0.device, y1.device);
  y0.fetch(), y1.fetch();
  printf("%s, %d rows, %d parts\n", name, rows, PARTS);
  check("  f32", error(y0, rows, N0, N0, [&](int r, int c) { return dot(x, w0, r, c); }), 1e-5);
  check("  bf16",
        error(y1, rows, N1, N1,
              [&](int r, int c) {
                return dot(x, w1, r, c) * (products(PARTS) == 2 ? dot(x, w2, r, c) : 1);
              }),
        8e-3);
}

template <class W, int PARTS, int N0, int N1>
__global__ void __cluster_dims__(PARTS, 1, 1) __launch_bounds__(SPLIT_PACKED_THREADS)
    in_fp8(const __grid_constant__ TensorMap x, W w0, W w1, W w2, int rows, const float* scales,
           float* y0, float* y1) {
  SHARED(u8, shared);
  const auto one = scaled(Plain{}, scales, w0.scales, w0.scales);
  const auto two = scaled(Product{}, scales, w1.scales, w2.scales);
  if constexpr (PARTS <= 2)
    gemm_split_packed<E4m3Tiles, PARTS>(shared, x, rows, result<N0, N0>(w0, y0, one),
                                  result<N1, N1>(w1, w2, y1, two));
  else
    gemm_split_packed<E4m3Tiles, PARTS>(
        shared, x, rows, result<N0, N0>(w0, y0, one),
        result<N1, N1>(w1, y1, scaled(Plain{}, scales, w1.scales, w1.scales)));
}

template <int K, int PARTS, int N0, int N1>
void test_in_fp8(int rows) {
  using W = Fp8<K>;
  Array<__nv_fp8_e4m3> x(rows * K, 1);
  Array<float> scales(rows, 1), y0(rows * N0), y1(rows * N1);
  const PackedMatrix w0(Format::FP8, N0, K), w1(Format::FP8, N1, K), w2(Format::FP8, N1, K);
  const auto scaled = [&](const PackedMatrix& w, int row, int column) {
    return dot(x, w, row, column) * scales[row];
  };
  Array<__nv_fp8_e4m3> ordered(rows * arranged_width(K));
  arrange_rows(ordered, x, rows, K);
  launch_clusters(PARTS, in_fp8<W, PARTS, N0, N1>, grid(PARTS, N0, N1, rows),
                  SPLIT_PACKED_THREADS, split_packed_shared<E4m3Tiles, W>,
                  tensor_map(ordered.device, rows, arranged_width(K), 64), weights<W>(w0),
                  weights<W>(w1), weights<W>(w2), rows, (const float*)scales.device, y0.device, y1.device);
  y0.fetch(), y1.fetch();
  printf("fp8 in fp8, %d rows, %d parts\n", rows, PARTS);
  check("  one", error(y0, rows, N0, N0, [&](int r, int c) { return scaled(w0, r, c); }), 2e-3);
  check("  other",
        error(y1, rows, N1, N1,
              [&](int r, int c) {
                return scaled(w1, r, c) * (products(PARTS) == 2 ? scaled(w2, r, c) : 1);
              }),
        4e-3);
}

int main() {
  test<Fp8<456>, 1, 200, 72>("fp8", Format::FP8, 33);
  test<Nvfp4<456>, 1, 136, 72>("nvfp4", Format::NVFP4, 70);
  test<Nvfp4<96>, 1, 8, 8>("nvfp4", Format::NVFP4, 17);
  test<Q8_0<416>, 1, 136, 64>("q8_0", Format::Q8_0, 20);
  test<Q4_0<672>, 1, 40, 72>("q4_0", Format::Q4_0, 17);
  test<Q4_1<352>, 1, 40, 16>("q4_1", Format::Q4_1, 19);
  test_in_fp8<464, 1, 136, 72>(70);
  test_in_fp8<320, 1, 72, 8>(17);
  test<Fp8<456>, 2, 136, 72>("fp8", Format::FP8, 33);
  test<Nvfp4<200>, 4, 200, 72>("nvfp4", Format::NVFP4, 70);
  test_in_fp8<592, 2, 136, 72>(33);
  test_in_fp8<592, 4, 136, 40>(70);
  test_in_fp8<64, 4, 136, 72>(17);
#ifdef __CUDACC__
  test<Fp8<1096>, 2, 200, 72>("fp8", Format::FP8, 33);
  test_in_fp8<1040, 2, 200, 72>(33);
  test<Q4_0<1472>, 4, 304, 256>("q4_0", Format::Q4_0, 64);
#endif
  return failures != 0;
}
