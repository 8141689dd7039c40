// unpack.cuh: packed weights as rows, of every format; sizes that fill no tile and no step.
#include "packed.h"
#include "unpack.cuh"

template <class W>
__global__ void unpacked(bf16* y, W w) {
  unpack<8>(y, w);
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

int main() {
  rows<Fp8<136>>("fp8", Format::FP8, 0);
  rows<Nvfp4<144>>("nvfp4", Format::NVFP4, 0);
  rows<Q8_0<160>>("q8_0", Format::Q8_0, 0);
  rows<Q4_0<160>>("q4_0", Format::Q4_0, 0);
  rows<Q4_1<160>>("q4_1", Format::Q4_1, 0);
  return failures != 0;
}
