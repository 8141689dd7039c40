// unpack.cuh: packed weights as rows, of every format; sizes that fill no tile and no step.
#include "packed.h"
#include "unpack.cuh"

template <class W>
__global__ void unpacked(bf16* y, W w) {
  unpack<8>(y, w);
}

template <int N, int K>
__global__ void untiled(u8* y, const u8* tiles) {
  untile<N, K>(y, tiles);
}

// Values have few bits, but for those with a minimum, which are rounded.
template <class W>
void rows(const char* what, Format format, double allowed) {
  constexpr int ROWS = 43;
  const PackedMatrix m(format, ROWS, W::COLUMNS);
  Array<bf16> y(ROWS * W::COLUMNS);
  launch(unpacked<W>, dim3(3), dim3(256), 0, y.device, weights<W>(m));
  y.fetch();
  const auto value = [&](int n, int k) { return m.values[(size_t)n * W::COLUMNS + k]; };
  check(what, error(y, ROWS, W::COLUMNS, W::COLUMNS, value), allowed);
}

template <int N, int K>
void bytes(const char* what) {
  constexpr int WIDTH = (K + 31) / 32 * 32;
  const PackedMatrix m(Format::FP8, N, K);
  Array<u8> y(N * WIDTH);
  launch(untiled<N, K>, dim3(3), dim3(256), 0, y.device, m.bytes.device);
  y.fetch();
  Array<float> values(N * WIDTH);
  for (int i = 0; i < N * WIDTH; ++i)
    values.host[i] = float(e4m3(y.host[i]) * m.scales.host[i / WIDTH]);
  const auto value = [&](int n, int place) {
    const int k = arranged_column(1, place);
    return k < K ? m.values[(size_t)n * K + k] : 0;
  };
  check(what, error(values, N, WIDTH, WIDTH, value), 0);
}

int main() {
  rows<Fp8<136>>("fp8", Format::FP8, 0);
  rows<Nvfp4<144>>("nvfp4", Format::NVFP4, 0);
  rows<Q8_0<160>>("q8_0", Format::Q8_0, 0);
  rows<Q4_0<160>>("q4_0", Format::Q4_0, 0);
  rows<Q4_1<160>>("q4_1", Format::Q4_1, 0);
  bytes<43, 136>("fp8 as bytes");
  bytes<128, 256>("fp8 as bytes, whole tiles");
  return failures != 0;
}
