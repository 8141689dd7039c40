// attention_token.cuh: lengths from nothing on, groups, widths, windows, formats of the cache, cross
// attention; counters are zero again.
#include "attention_cases.h"
#include "attention_token.cuh"

template <class A, class Q, class T, class Y>
__global__ void __launch_bounds__(A::THREADS)
    instance(const Q* q, const T* k, const T* v, const int* length, float scale, Y* y,
             float* scratch, u32* counters) {
  attention_token<A>(q, k, v, length, scale, y, scratch, counters, blockIdx.x);
}

template <int S, int KH, int G, int P, int PV, bool CAUSAL, int WINDOW, class Q, class T, class Y>
void test(int past) {
  using A = AttentionToken<S, KH, G, P, PV, CAUSAL, WINDOW, 4>;
  const int keys = CAUSAL ? past + S : past;
  attention_case<AttentionCase<KH, G, P, PV, CAUSAL, WINDOW>, Q, T, Y>(
      S, past, keys, [&](const Q* q, const T* k, const T* v, Y* y, float scale) {
        Array<int> length(1);
        Array<float> scratch(A::SCRATCH);
        Array<u32> counters(A::COUNTERS);
        length.host[0] = past, length.send();
        for (u32& it : counters.host) it = 0;
        counters.send();
        launch(instance<A, Q, T, Y>, dim3(A::BLOCKS), dim3(A::THREADS), 0, q, k, v,
               (const int*)length.device, scale, y, scratch.device, counters.device);
        counters.fetch();
        for (u32 it : counters.host) failures += it != 0;
      });
}

int main() {
  for (int past : {0, 63, 300}) test<1, 2, 4, 128, 128, true, 0, float, bf16, float>(past);
  test<3, 1, 5, 128, 128, true, 0, float, f16, bf16>(100);
  test<2, 1, 16, 64, 64, true, 40, bf16, bf16, float>(200);
  test<1, 2, 3, 80, 96, true, 0, float, float, float>(130);
  test<1, 1, 2, 256, 256, true, 0, float, bf16, float>(70);
  test<1, 2, 1, 16, 24, true, 30, float, bf16, float>(400);
  test<2, 2, 2, 64, 64, false, 0, float, float, float>(77);
  return failures != 0;
}
