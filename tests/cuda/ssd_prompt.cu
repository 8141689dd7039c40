// ssd_prompt.cuh against the recurrence: widths, groups, lengths that no chunk divides, wider rows.
#include "check.h"
#include "ssd_prompt.cuh"

template <class Y, int GROUPS, int J, int D, int N, int GAP>
__global__ void __launch_bounds__(SSD_THREADS, 1)
    instance(const bf16* x, const float* dt, const float* a, const bf16* b, const bf16* c, float* state,
             Y* y, int rows) {
  SHARED(u8, shared);
  ssd_prompt<GROUPS, J, D, N, GROUPS * J * D + GAP, GROUPS * N, GROUPS * N>(shared, x, dt, a, b, c,
                                                                            state, y, rows);
}

template <class Y, int GROUPS, int J, int D, int N, int GAP>
void test(const char* name, int rows) {
  constexpr int HEADS = GROUPS * J, X_ROW = HEADS * D + GAP;
  Array<bf16> x(rows * X_ROW, 1), b(rows * GROUPS * N, 1), c(rows * GROUPS * N, 1);
  Array<float> dt(rows * HEADS, 1), a(HEADS, 1), state(HEADS * D * N, 1);
  for (float& v : dt.host) v = std::log1p(std::exp(v - 2));
  for (float& v : a.host) v = -std::exp(v);
  dt.send(), a.send();
  const std::vector<float> before = state.host;
  Array<Y> y(rows * HEADS * D);
  launch(instance<Y, GROUPS, J, D, N, GAP>, HEADS, SSD_THREADS, sizeof(SsdShared<D, N>),
         (const bf16*)x.device, (const float*)dt.device, (const float*)a.device, (const bf16*)b.device,
         (const bf16*)c.device, state.device, y.device, rows);
  y.fetch(), state.fetch();

  std::vector<double> h(before.begin(), before.end()), want(rows * HEADS * D);
  for (int s = 0; s < rows; ++s) {
    for (int head = 0; head < HEADS; ++head) {
      const double step = dt[s * HEADS + head], decay = std::exp(step * a[head]);
      const size_t shared = (s * GROUPS + head / J) * N;
      for (int d = 0; d < D; ++d) {
        for (int n = 0; n < N; ++n) {
          double& v = h[(head * D + d) * N + n];
          v = v * decay + step * x[s * X_ROW + head * D + d] * b[shared + n];
          want[(s * HEADS + head) * D + d] += v * c[shared + n];
        }
      }
    }
  }
  printf("%s, %d positions\n", name, rows);
  const auto wanted = [&](int r, int i) { return want[r * HEADS * D + i]; };
  check("  y", error(y, rows, HEADS * D, HEADS * D, wanted), 2e-2);
  check("  state",
        error(state, HEADS, D * N, D * N, [&](int r, int i) { return h[r * D * N + i]; }), 1e-2);
}

int main() {
  test<float, 2, 2, 80, 128, 0>("heads of 80", 200);
  test<bf16, 1, 2, 64, 128, 24>("heads of 64", 64);
  test<float, 1, 1, 8, 24, 8>("small", 130);
  test<float, 1, 1, 32, 256, 0>("wide state", 150);
#ifdef __CUDACC__
  test<float, 8, 16, 80, 128, 0>("heads of 80", 1000);
  test<bf16, 8, 16, 64, 128, 2048>("heads of 64", 777);
#endif
  return failures != 0;
}
