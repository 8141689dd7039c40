// What ldmatrix.cuh offers, on the CPU.
#pragma once
#include "ptx.cuh"

namespace shim {

// The word of this lane of each of four matrices, whose rows start where lanes 8 i to 8 i + 7 say.
inline void load_matrices(u32 (&d)[4], const void* row, bool transposed) {
  together(ALL_LANES, row, [&](auto get) {
    for (unsigned i = 0; i < 4; ++i) {
      u16 halves[2];
      for (unsigned e = 0; e < 2; ++e) {
        const unsigned r = transposed ? lane() % 4 * 2 + e : lane() / 4;
        const unsigned c = transposed ? lane() / 4 : lane() % 4 * 2 + e;
        memcpy(&halves[e], (const u8*)get(8 * i + r) + 2 * c, 2);
      }
      d[i] = halves[0] | u32(halves[1]) << 16;
    }
    return 0;
  });
}

}  // namespace shim

inline void load_matrices(u32 (&d)[4], const void* row) { shim::load_matrices(d, row, false); }
inline void load_matrices_transposed(u32 (&d)[4], const void* row) {
  shim::load_matrices(d, row, true);
}
