// conv_prompt.cuh: widths, wider rows, fewer positions than the window has.
#include "check.h"
#include "conv_prompt.cuh"

struct Twice {
  __device__ float operator()(int, int, float v) const { return 2 * v; }
};

template <class X, class Weight, class Y, int C, int W, int X_ROW>
__global__ void __launch_bounds__(CONV_THREADS)
    instance(const X* x, const Weight* weight, const Weight* bias, float* window, Y* y, int rows) {
  conv_prompt<C, W, X_ROW>(x, weight, bias, window, y, rows, Twice{});
}

template <class X, class Weight, class Y, int C, int W, int X_ROW>
void test(int rows) {
  Array<X> x(rows * X_ROW, 1);
  Array<Weight> weight(C * W, 1), bias(C, 1);
  Array<float> window(W * C, 1);
  Array<Y> y(rows * C);
  const std::vector<float> before = window.host;
  const dim3 grid((C + 4 * CONV_THREADS - 1) / (4 * CONV_THREADS),
                  (rows + CONV_ROWS - 1) / CONV_ROWS);
  launch(instance<X, Weight, Y, C, W, X_ROW>, grid, CONV_THREADS, 0, (const X*)x.device,
         (const Weight*)weight.device, (const Weight*)bias.device, window.device, y.device, rows);
  y.fetch(), window.fetch();
  const auto at = [&](int s, int c) {
    return s < 0 ? double(before[(W + s) * C + c]) : x[s * X_ROW + c];
  };
  printf("%d positions of %d channels, %d wide\n", rows, C, W);
  check("  y",
        error(y, rows, C, C,
              [&](int s, int c) {
                double sum = bias[c];
                for (int w = 0; w < W; ++w) sum += weight[c * W + w] * at(s + w + 1 - W, c);
                return 2 * sum;
              }),
        sizeof(Y) == 4 ? 1e-6 : 4e-3);
  check("  window", error(window, W, C, C, [&](int w, int c) { return at(rows - W + w, c); }),
        1e-6);
}

int main() {
  test<float, float, float, 520, 4, 520>(70);
  test<bf16, bf16, bf16, 36, 4, 48>(33);
  test<float, bf16, bf16, 8, 3, 12>(2);
  test<bf16, float, float, 12, 4, 12>(1);
  test<float, float, float, 12, 33, 12>(70);
  return failures != 0;
}
