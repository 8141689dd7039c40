// attention_prompt.cuh: widths, groups, masks, a past, odd lengths.
#include "attention_cases.h"
#include "attention_prompt.cuh"

template <class Case, class Q, class T, class Y>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    instance(const Q* q, const T* k, const T* v, Y* y, int rows, int past, int keys, float scale) {
  SHARED(u8, shared);
  attention_prompt<Case::KH, Case::G, Case::P, Case::PV, Case::CAUSAL, Case::WINDOW>(
      (T*)shared, q, k, v, y, rows, past, keys, scale);
}

template <class Case, class Q, class T, class Y>
void test(int rows, int past, int keys) {
  attention_case<Case, Q, T, Y>(
      rows, past, keys, [&](const Q* q, const T* k, const T* v, Y* y, float scale) {
        const dim3 grid((rows * Case::G + ATTENTION_ROWS - 1) / ATTENTION_ROWS, Case::KH);
        launch(instance<Case, Q, T, Y>, grid, ATTENTION_THREADS,
               attention_shared<Case::P, Case::PV>, q, k, v, y, rows, past, keys, scale);
      });
}

int main() {
  test<AttentionCase<2, 4, 64, 64, true, 0>, float, bf16, float>(50, 30, 80);
  test<AttentionCase<1, 5, 128, 128, true, 0>, bf16, bf16, bf16>(33, 100, 133);
  test<AttentionCase<3, 1, 80, 48, false, 0>, float, f16, f16>(70, 0, 45);
  test<AttentionCase<1, 2, 24, 40, true, 20>, float, bf16, bf16>(65, 11, 76);
  test<AttentionCase<1, 1, 32, 32, false, 10>, bf16, bf16, float>(90, 0, 90);
  test<AttentionCase<1, 2, 256, 192, true, 0>, bf16, bf16, float>(20, 60, 80);
#ifdef __CUDACC__
  test<AttentionCase<2, 4, 128, 128, true, 0>, bf16, bf16, bf16>(700, 300, 1000);
  test<AttentionCase<2, 3, 64, 64, true, 100>, float, f16, f16>(700, 300, 1000);
#endif
  return failures != 0;
}
