// attention_hopper.cuh: widths, groups, masks, a past, odd lengths.
#include "attention_cases.h"
#include "attention_hopper.cuh"

// Warpgroups by the width of heads.
template <class Case>
constexpr int groups = Case::P == 64 ? 3 : 2;

template <class Case, class Q, class Y>
__global__ void __launch_bounds__(flash_threads<groups<Case>>, 1)
    instance(const Q* q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
             Y* y, int rows, int past, int keys, float scale) {
  SHARED(u8, shared);
  attention_hopper<Case::KH, Case::G, Case::P, Case::CAUSAL, Case::WINDOW, groups<Case>>(
      shared, q, k, v, y, rows, past, keys, scale);
}

template <class Case, class Q, class Y>
void test(int rows, int past, int keys) {
  attention_case<Case, Q, bf16, Y>(
      rows, past, keys, [&](const Q* q, const bf16* k, const bf16* v, Y* y, float scale) {
        const dim3 grid(Case::KH,
                        (rows * Case::G + flash_rows<groups<Case>> - 1) / flash_rows<groups<Case>>);
        const auto map = [&](const bf16* cache) {
          return tensor_map(cache, keys, Case::KH * Case::P, FLASH_KEYS);
        };
        launch(instance<Case, Q, Y>, grid, flash_threads<groups<Case>>,
               flash_shared<Case::P, groups<Case>>, q, map(k), map(v), y, rows, past, keys, scale);
      });
}

int main() {
  test<AttentionCase<2, 4, 64, 64, true, 0>, float, float>(50, 130, 180);
  test<AttentionCase<1, 5, 128, 128, true, 0>, bf16, bf16>(33, 400, 433);
  test<AttentionCase<3, 1, 64, 64, false, 0>, float, f16>(70, 0, 45);
  test<AttentionCase<1, 2, 128, 128, true, 20>, float, bf16>(65, 311, 376);
  test<AttentionCase<1, 1, 64, 64, false, 10>, bf16, float>(190, 0, 190);
#ifdef __CUDACC__
  test<AttentionCase<2, 4, 128, 128, true, 0>, bf16, bf16>(700, 300, 1000);
  test<AttentionCase<2, 3, 64, 64, true, 100>, float, bf16>(700, 300, 1000);
#endif
  return failures != 0;
}
