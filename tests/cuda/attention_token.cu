// attention_token.cuh and attention_mma.cuh: lengths from nothing on, groups, widths, windows,
// formats of the cache; counters are zero again.
#include "attention_cases.h"
#include "attention_mma.cuh"
#include "attention_token.cuh"

template <template <class, class, class, class> class Block, class A, class Q, class T, class Y>
__global__ void __launch_bounds__(A::THREADS)
    instance(const Q* q, const T* k, const T* v, const int* length, float scale, Y* y,
             float* scratch, u32* counters) {
  attend<Block, A>(q, k, v, length, scale, y, scratch, counters, blockIdx.x);
}

template <template <class, class, class, class> class Block, class A, class Q, class T, class Y>
void test(int past) {
  attention_case<AttentionCase<A::HEADS, A::GROUP, A::P, A::PV, true, A::WINDOW>, Q, T, Y>(
      1, past, past + 1, [&](const Q* q, const T* k, const T* v, Y* y, float scale) {
        Array<int> length(1);
        Array<float> scratch(A::SCRATCH);
        Array<u32> counters(A::COUNTERS);
        length.host[0] = past, length.send();
        for (u32& it : counters.host) it = 0;
        counters.send();
        launch(instance<Block, A, Q, T, Y>, dim3(A::BLOCKS), dim3(A::THREADS), 0, q, k, v,
               (const int*)length.device, scale, y, scratch.device, counters.device);
        counters.fetch();
        for (u32 it : counters.host) failures += it != 0;
      });
}

template <int KH, int G, int P, int PV, int WINDOW, class Q, class T, class Y>
void lanes(int past) {
  test<AttentionTokenBlock, AttentionToken<KH, G, P, PV, WINDOW, 4>, Q, T, Y>(past);
}

template <int KH, int G, int P, int PV, int WINDOW, int PARTS, class Y>
void matrix(int past) {
  test<AttentionMmaBlock, AttentionMma<KH, G, P, PV, WINDOW, PARTS>, bf16, bf16, Y>(past);
}

int main() {
  for (int past : {0, 63, 300}) lanes<2, 4, 128, 128, 0, float, bf16, float>(past);
  lanes<1, 5, 128, 128, 0, float, f16, bf16>(100);
  lanes<1, 16, 64, 64, 40, bf16, bf16, float>(200);
  lanes<2, 3, 80, 96, 0, float, float, float>(130);
  lanes<1, 2, 256, 256, 0, float, bf16, float>(70);
  lanes<2, 1, 16, 24, 30, float, bf16, float>(400);
  for (int past : {0, 1, 15, 63, 64, 300, 1500}) matrix<2, 4, 128, 128, 0, 4, bf16>(past);
  matrix<1, 5, 128, 128, 0, 33, float>(1000);
  matrix<1, 16, 64, 64, 40, 4, float>(200);
  matrix<2, 1, 96, 64, 0, 1, float>(130);
  matrix<1, 12, 32, 128, 30, 3, bf16>(400);
  return failures != 0;
}
