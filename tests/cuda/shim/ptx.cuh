// What ptx.cuh offers, on the CPU.
#pragma once
#include "shim.h"

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using bf16 = __nv_bfloat16;
using f16 = __half;

constexpr u32 ALL_LANES = 0xffffffff;

#define SHARED(T, name) T* name = (T*)shim::shared()

inline void wait_for_earlier() {}
inline void let_later_start() {}

inline int kept(int x) { return x; }

// Copies are there at once: a missing wait is not seen.
inline void copy_16_once(void* to, const void* from) { memcpy(to, from, 16); }
template <int BYTES>
void copy(void* to, const void* from) {
  memcpy(to, from, BYTES);
}
inline void copies_end() {}
template <int>
void copies_wait() {}
inline u32 count_in(u32* counter) { return (*counter)++; }
inline void prefetch(const void*) {}
inline float power_of_2(float x) { return std::exp2(x); }

namespace shim {

struct Operands {
  u32 a[4], b[2];
};

template <class T>
float half_of(u32 word, unsigned which) {
  const u16 bits = u16(word >> 16 * which);
  T v;
  memcpy(&v, &bits, 2);
  return float(v);
}

template <class T>
void multiply_16_8_16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  Operands mine;
  memcpy(mine.a, a, sizeof a);
  memcpy(mine.b, b, sizeof b);
  together(ALL_LANES, mine, [&](auto get) {
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = lane() / 4, half = i / 2, column = lane() % 4 * 2 + i % 2;
      for (unsigned k = 0; k < 16; ++k) {
        const Operands left = get(row * 4 + k % 8 / 2), right = get(column * 4 + k % 8 / 2);
        d[i] += half_of<T>(left.a[half + k / 8 * 2], k % 2) * half_of<T>(right.b[k / 8], k % 2);
      }
    }
    return 0;
  });
}

}  // namespace shim

inline void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  shim::multiply_16_8_16<bf16>(d, a, b);
}
inline void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  shim::multiply_16_8_16<f16>(d, a, b);
}

inline u32 transposed(u32 x) {
  return shim::together(ALL_LANES, x, [&](auto get) {
    const unsigned row = shim::lane() / 4, column = shim::lane() % 4 * 2;
    const auto half = [&](unsigned of) { return get(of * 4 + row / 2) >> row % 2 * 16 & 0xffff; };
    return half(column) | half(column + 1) << 16;
  });
}
