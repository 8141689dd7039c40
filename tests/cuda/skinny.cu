// skinny.cuh: every format of weights, one product and two, rows that stay and rows that travel, norms,
// sizes that fill no tile. A row's bits do not depend on the other rows.
#include "packed.h"
#include "skinny.cuh"

struct Tail {
  float more;
  __device__ float operator()(int row, int n, float p0, float p1) const {
    return p0 + 0.5f * p1 + 1e-3f * n + row + more;
  }
};

// The result of both matrices, or of each one that differs from the other in its tail's number.
template <class S, class In>
__global__ void __launch_bounds__(S::THREADS, 1)
    instance(typename S::W w0, typename S::W w1, In in, float* y, int rows) {
  SHARED(u8, shared);
  const int n = w0.rows;
  if constexpr (S::PRODUCTS == 2) {
    if (blockIdx.x < 3) skinny(in, rows, shared, skinny_part<S>({w0, w1}, Tail{0}, y, n, 0, 3));
  } else {
    float* second = y + rows * n;
    skinny(in, rows, shared, skinny_part<S>({w0}, Tail{0}, y, n, 0, 3),
           skinny_part<S>({w1}, Tail{7}, second, w1.rows, 3, 2));
  }
}

// `value(product, n, k)` is a weight, `in(x, g)` the input.
template <class S, class X, class In, class Value>
void test(const char* what, typename S::W w0, typename S::W w1, Value value, int rows, In in,
          bool norms) {
  constexpr int K = S::W::COLUMNS;
  const int N = w0.rows, results = 3 - S::PRODUCTS;
  Array<X> x(rows * K, 2);
  Array<bf16> g(K, 1);
  Array<float> y(results * rows * N);
  const auto run = [&] {
    launch(instance<S, decltype(in(x.device, g.device))>, dim3(5), dim3(S::THREADS),
           SKINNY_SHARED, w0, w1, in(x.device, g.device), y.device, rows);
    y.fetch();
  };
  run();
  const double most = sizeof(X) == 2 || S::PARTS == 2 ? 2e-5 : 4e-3;
  check(what, error(y, results * rows, N, N, [&](int line, int n) {
          const int m = line % rows, second = line / rows;
          double squares = 0, p[2] = {};
          for (int k = 0; k < K; ++k) squares += x[m * K + k] * x[m * K + k];
          for (int k = 0; k < K; ++k) {
            const double v = x[m * K + k] * (norms ? g[k] / std::sqrt(squares / K + 1e-6) : 1);
            for (int q = 0; q < S::PRODUCTS; ++q) p[q] += v * value(q + second, n, k);
          }
          return p[0] + 0.5 * p[S::PRODUCTS - 1] + 1e-3 * n + m + 7 * second;
        }), most);
  const int last = (results * rows - 1) * N;
  const std::vector<float> before(&y.host[last], &y.host[last] + N);
  for (int i = 0; i < (rows - 1) * K; ++i) x.host[i] = X(float(30 * normal()));
  x.send();
  run();
  check("  the last row, among others", memcmp(&before[0], &y.host[last], 4 * N), 0);
}

template <class T, int N, int K, int PRODUCTS, int MAX, int PARTS, bool STAYS, class X, int HEIGHT = 16,
          class In>
void rows(const char* what, int count, In in, bool norms) {
  Array<T> w0(N * K, 0.05), w1(N * K, 0.05);
  using W = Rows<K, T, HEIGHT>;
  test<Skinny<W, PRODUCTS, MAX, PARTS, STAYS>, X>(
      what, W{w0.device, N}, W{w1.device, N},
      [&](int q, int n, int k) { return (q == 0 ? w0 : w1)[n * K + k]; }, count, in, norms);
}

template <class W, int N, int PRODUCTS, int MAX, int PARTS, bool STAYS, class X, class In>
void packed(const char* what, Format format, int count, In in, bool norms) {
  const PackedMatrix m0(format, N, W::COLUMNS), m1(format, N, W::COLUMNS);
  test<Skinny<W, PRODUCTS, MAX, PARTS, STAYS>, X>(
      what, weights<W>(m0), weights<W>(m1),
      [&](int q, int n, int k) { return (q == 0 ? m0 : m1).values[(size_t)n * W::COLUMNS + k]; },
      count, in, norms);
}

template <class X, int K>
PlainRows<X> plain(const X* x, const bf16*) {
  return {x, K};
}

template <int K>
NormedRows<float, bf16> normed(const float* x, const bf16* g) {
  return {x, K, g, 1e-6f};
}

int main() {
  rows<bf16, 43, 288, 2, 1, 2, true, float>("bf16, two, normed", 1, normed<288>, true);
  rows<bf16, 43, 576, 1, 4, 2, true, float>("bf16, 3 rows", 3, plain<float, 576>, false);
  rows<bf16, 3, 32, 1, 2, 1, true, bf16>("bf16, 2 rows of bf16", 2, plain<bf16, 32>, false);
  rows<bf16, 43, 576, 2, 16, 1, false, bf16>("bf16, 13 rows", 13, plain<bf16, 576>, false);
  rows<bf16, 43, 320, 1, 1, 1, true, bf16, 12>("bf16, tiles of 12", 1, plain<bf16, 320>, false);
  rows<bf16, 43, 96, 2, 2, 2, true, float, 8>("bf16, tiles of 8", 2, normed<96>, true);
  rows<float, 43, 96, 1, 4, 2, true, float, 12>("f32, tiles of 12", 3, plain<float, 96>, false);
  rows<f16, 50, 320, 1, 1, 2, true, float>("f16", 1, plain<float, 320>, false);
  rows<float, 50, 320, 2, 1, 2, true, float>("f32, two", 1, plain<float, 320>, false);
  packed<Fp8<96>, 43, 2, 1, 2, true, float>("fp8, two", Format::FP8, 1, normed<96>, true);
  packed<Fp8<576>, 43, 1, 8, 1, false, bf16>("fp8, 7 rows", Format::FP8, 7, plain<bf16, 576>, false);
  packed<Nvfp4<576>, 43, 2, 1, 2, true, float>("nvfp4, two", Format::NVFP4, 1, normed<576>, true);
  packed<Nvfp4<96>, 20, 1, 4, 2, true, float>("nvfp4, 4 rows", Format::NVFP4, 4, plain<float, 96>,
                                             false);
  packed<Q8_0<320>, 43, 1, 1, 2, true, float>("q8_0", Format::Q8_0, 1, plain<float, 320>, false);
  packed<Q4_0<320>, 43, 1, 1, 2, true, float>("q4_0", Format::Q4_0, 1, plain<float, 320>, false);
  packed<Q4_1<352>, 43, 2, 16, 1, false, bf16>("q4_1, 15 rows", Format::Q4_1, 15,
                                              plain<bf16, 352>, false);
  return failures != 0;
}
