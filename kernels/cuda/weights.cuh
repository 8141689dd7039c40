// Formats of a weight matrix [N, K] as `skinny` reads it: what a lane copies, and how it becomes
// bf16.
//
// A matrix is cut into tiles of HEIGHT rows and STEP columns. Lane 4 g + t of a warp takes rows g
// ("top") and g + 8 ("bottom") of a tile; of each 32 columns it takes the 8 from column 8 t on, e0
// to e7, which it unpacks to words (e0, e1), (e2, e3), (e4, e5), (e6, e7) of bf16, the even one in
// the lower half.
//
// `Rows` reads bf16, f16 or f32 in rows of K numbers, K a multiple of 32. A step is 128 bytes of
// each row, where rows have a multiple of that, and 32 columns else: eight lanes that copy 128 bytes
// side by side read 3 % faster than four that copy 64.
// All the others are packed, with a HEIGHT of 16 and a STEP of 64 (8 bits) or 128 (4 bits): missing
// columns and rows are zeros, tiles follow each other along K, then along N. Each is a record of two
// chunks of 512 bytes and of extras. A chunk holds 16 bytes a lane, in order of lanes. The 8 numbers
// of a row of a lane take one word (4 bits) or two (8 bits), w and w':
//   4 bits, chunk c:  w of top, of bottom (columns 64 c to 64 c + 31), the same of the next 32
//   8 bits, chunk c:  w, w' of top, w, w' of bottom (columns 32 c to 32 c + 31)
// and are ordered within a word as follows, from the lowest bits up:
//   Fp8             bytes e2 e0 e3 e1 | e6 e4 e7 e5, E4M3
//   Q8_0            bytes e0 e2 e1 e3 | e4 e6 e5 e7, signed
//   Q4_0, Q4_1      nibbles e0 e2 e4 e6 e1 e3 e5 e7
//   Nvfp4           even numbers in the lower 16 bits and odd ones in the upper, alike, but e7 in
//                   the lower and e6 in the upper. With bits s b a m of E2M1 (sign, exponent b a,
//                   fraction m), from bit 0: e4's m a b, e2's m a b, e0's m a b, e4's s, e7's a b,
//                   e2's s, e7's s m, e0's s.
// Extras, g from 0 to 7, T for top and B for bottom, columns counted in the record; what is no byte
// is little-endian:
//   Fp8             none; `scales` has an f32 for each of the N rows
//   Nvfp4           one byte a scale of 16 columns: for each g, for h = 0, 1, for the columns from
//                   0, 32, 64 and 96 on: of T, of B, for the 16 that start 16 h further. A scale
//                   2^e (1 + m / 8) of E4M3, be it normal there or not (e from -9 to 8), has byte
//                   8 (e + 22) + m. Where it is zero, byte and numbers are zero. `matrix_scale` is
//                   the matrix's own.
//   Q8_0, Q4_0      f16 scales: for each g, for each 32 columns: of T, of B
//   Q4_1            for each g: as many scales as Q4_0, then minima alike
#pragma once
#include "numbers.cuh"

// What a lane unpacks for 32 columns: a row's 8 numbers in four words.
struct Fragment {
  u32 top[4], bottom[4];
};

// A number for each of a lane's two rows.
struct RowPair {
  float top, bottom;
};

// Two numbers as words of bf16: what the first part leaves over is the second.
__device__ __forceinline__ u32 bf16_part(float low, float high, int part) {
  u32 first = bf16_pair(low, high);
  return part == 0 ? first : bf16_pair(low - bf16_low(first), high - bf16_high(first));
}

__device__ __forceinline__ void words_of(u32 (&words)[4], const uint4* v, int, bf16) {
  words[0] = v->x, words[1] = v->y, words[2] = v->z, words[3] = v->w;
}

template <class T>
__device__ __forceinline__ void words_of(u32 (&words)[4], const uint4* v, int part, T) {
  const T* x = (const T*)v;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = bf16_part(to_float(x[2 * i]), to_float(x[2 * i + 1]), part);
}

__device__ constexpr bool bf16_holds(bf16) { return true; }
template <class T>
__device__ constexpr bool bf16_holds(T) {
  return false;
}

// Weights in `rows` rows of K numbers as they are. A number that bf16 does not hold is the sum of two.
template <int K, class T, int HEIGHT_ = 16>
struct Rows {
  static_assert(K % 32 == 0, "rows are read 32 columns at a time");
  static constexpr int COLUMNS = K, HEIGHT = HEIGHT_;
  static constexpr int STEP = K * sizeof(T) % 128 == 0 ? 128 / sizeof(T) : 32, STEPS = K / STEP;
  static constexpr int PARTS = bf16_holds(T()) ? 1 : 2;
  // So many lanes copy a row of a tile, 16 bytes each; of 32 columns, a lane takes WIDE times 16.
  static constexpr int LANES = STEP * sizeof(T) / 16, WIDE = sizeof(T) / 2, RUNS = STEP / 32;
  static constexpr int PIECE = HEIGHT * LANES * 16, AHEAD = 8;
  static constexpr bool FOLDS = false, HAS_MINIMA = false;
  static_assert(HEIGHT * LANES % 32 == 0, "all lanes copy");
  struct Raw {
    uint4 v[RUNS][2][WIDE];
  };
  const T* w;
  int rows;

  // Where the 16 bytes `at` of a row of a tile lie: eight lanes read from different banks at once.
  static __device__ __forceinline__ int place(int row, int at) {
    constexpr int TURN = LANES == 8 ? WIDE == 1 ? 4 : 1 : 0;
    return (row * LANES + (at ^ row % 2 * TURN)) * 16;
  }

  __device__ __forceinline__ void fetch(u8* slot, int tile, int step, int lane) const {
    const T* from = w + step * STEP + lane % LANES * (16 / (int)sizeof(T));
#pragma unroll
    for (int i = 0; i < HEIGHT * LANES / 32; ++i) {
      int row = (i * 32 + lane) / LANES;
      copy_16_once(slot + place(row, lane % LANES), from + (u64)min(tile * HEIGHT + row, rows - 1) * K);
    }
  }

  // Lanes read what others have copied.
  static __device__ __forceinline__ void meet() { __syncwarp(); }

  static __device__ __forceinline__ Raw load(const u8* slot, int lane) {
    Raw raw;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + half * 8;
#pragma unroll
      for (int i = 0; i < RUNS * WIDE; ++i) {
        uint4& v = raw.v[i / WIDE][half][i % WIDE];
        const int at = (i / WIDE * 4 + lane % 4) * WIDE + i % WIDE;
        v = row < HEIGHT ? *(const uint4*)(slot + place(row, at)) : uint4{0, 0, 0, 0};
      }
    }
    return raw;
  }

  static __device__ __forceinline__ Fragment unpack(const Raw& raw, int run, int part) {
    Fragment f;
    words_of(f.top, raw.v[run][0], part, T());
    words_of(f.bottom, raw.v[run][1], part, T());
    return f;
  }

  __device__ __forceinline__ float scale(int) const { return 1; }
};

// What the packed formats share: EXTRA bytes of a record, UNIT for a scale, belong to SHARE lanes,
// BITS to a number. A step takes PIECE bytes of a warp's ring, which is AHEAD steps deep.
template <int K, int BITS, int EXTRA_, int SHARE, int UNIT>
struct Packed {
  static constexpr int COLUMNS = K, STEP = 512 / BITS, STEPS = (K + STEP - 1) / STEP, HEIGHT = 16;
  static constexpr int PARTS = 1, CHUNKS = 2, EXTRA = EXTRA_, PIECE = CHUNKS * 512 + EXTRA * 32;
  static constexpr int RECORD = CHUNKS * 512 + 32 / SHARE * EXTRA;
  // The loads of a deeper ring would delay x, which comes after them.
  static constexpr int AHEAD = BITS == 8 ? 6 : 3;
  struct Raw {
    uint4 v[CHUNKS];
    alignas(16) u32 extra[EXTRA / 4 + 1];

    // The word of 4-bit numbers of the top row, or of the bottom row, for the 32 columns `at`.
    __device__ __forceinline__ u32 word(int at, int bottom) const {
      const uint4& chunk = v[at / 2];
      return at % 2 == 0 ? bottom ? chunk.y : chunk.x : bottom ? chunk.w : chunk.z;
    }
  };
  const u8* w;
  int rows;

  __device__ __forceinline__ const u8* record(int tile, int step) const {
    return w + (u64)u32(tile * STEPS + step) * RECORD;
  }

  __device__ __forceinline__ void fetch(u8* slot, int tile, int step, int lane) const {
    constexpr int AT_ONCE = EXTRA < 16 ? EXTRA : 16;
    const u8* record = this->record(tile, step);
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i)
      copy_16_once(slot + i * 512 + lane * 16, record + i * 512 + lane * 16);
    u8* to = slot + CHUNKS * 512 + lane * EXTRA;
    const u8* from = record + CHUNKS * 512 + lane / SHARE * EXTRA;
#pragma unroll
    for (int i = 0; i < EXTRA; i += 16) copy<AT_ONCE>(to + i, from + i);
  }

  // A lane reads what it has copied.
  static __device__ __forceinline__ void meet() {}

  // A lane's part of what `fetch` has brought, or of a record as it is.
  static __device__ __forceinline__ Raw load(const u8* slot, int lane) {
    return load(slot, lane, lane);
  }
  static __device__ __forceinline__ Raw load_shared(const u8* record, int lane) {
    return load(record, lane, lane / SHARE);
  }

  // With the extras at place `its`.
  static __device__ __forceinline__ Raw load(const u8* slot, int lane, int its) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) raw.v[i] = *(const uint4*)(slot + i * 512 + lane * 16);
    const u8* extra = slot + CHUNKS * 512 + its * EXTRA;
    if constexpr (EXTRA == 8) {
      *(uint2*)raw.extra = *(const uint2*)extra;
    } else {
#pragma unroll
      for (int i = 0; i < EXTRA; i += 16) *(uint4*)(raw.extra + i / 4) = *(const uint4*)(extra + i);
    }
    return raw;
  }

  // The top rows of `a` above those of `b`, or the bottom rows of both.
  static __device__ __forceinline__ Raw halves(const Raw& a, const Raw& b, bool bottom) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const uint4 &v = a.v[i], &w = b.v[i];
      if constexpr (BITS == 8)
        raw.v[i] = bottom ? make_uint4(v.z, v.w, w.z, w.w) : make_uint4(v.x, v.y, w.x, w.y);
      else raw.v[i] = bottom ? make_uint4(v.y, w.y, v.w, w.w) : make_uint4(v.x, w.x, v.z, w.z);
    }
    const u32 bytes = UNIT == 1 ? bottom ? 0x7351 : 0x6240 : bottom ? 0x7632 : 0x5410;
#pragma unroll
    for (int i = 0; i < EXTRA / 4; ++i) raw.extra[i] = __byte_perm(a.extra[i], b.extra[i], bytes);
    return raw;
  }
};

// One word of E4M3 numbers: bf16 has them, but for a factor of 2^120, after a shift of the bits.
__device__ __forceinline__ void unpack_e4m3(u32 v, u32& first, u32& second) {
  constexpr u32 MAGNITUDE = 0x07f007f0, SIGN = 0x80008000, FACTOR = 0x7b807b80;
  first = bf16_multiply((v >> 4 & MAGNITUDE) | (v & SIGN), FACTOR);
  second = bf16_multiply((v << 4 & MAGNITUDE) | (v << 8 & SIGN), FACTOR);
}

// A chunk: two words of the top row, then two of the bottom row.
__device__ __forceinline__ Fragment unpack_fp8(const uint4& v) {
  Fragment f;
  unpack_e4m3(v.x, f.top[0], f.top[1]);
  unpack_e4m3(v.y, f.top[2], f.top[3]);
  unpack_e4m3(v.z, f.bottom[0], f.bottom[1]);
  unpack_e4m3(v.w, f.bottom[2], f.bottom[3]);
  return f;
}

// E4M3 with a scale for each row.
template <int K>
struct Fp8 : Packed<K, 8, 0, 4, 2> {
  using Base = Packed<K, 8, 0, 4, 2>;
  static constexpr bool FOLDS = false, HAS_MINIMA = false;
  const float* scales;

  static __device__ __forceinline__ Fragment unpack(const typename Base::Raw& raw, int at, int) {
    return unpack_fp8(raw.v[at]);
  }
  __device__ __forceinline__ float scale(int n) const { return scales[n]; }
};

// E2M1 with an E4M3 scale for each 16 columns and one f32 for all. The bits of a number are bf16's
// but for a factor of 2^126; a byte of scale makes bf16 of the scale times 2^119, by which numbers
// are multiplied without rounding. That leaves 2^-7.
template <int K>
struct Nvfp4 : Packed<K, 4, 8, 2, 1> {
  using Base = Packed<K, 4, 8, 2, 1>;
  static constexpr bool FOLDS = false, HAS_MINIMA = false;
  const float* matrix_scale;

  // `scale` is in both halves. The last pair, whose bits are where there was room, is moved by a
  // product, from each half to the other: no two of its three terms have a bit in one place.
  static __device__ __forceinline__ void unpack_row(u32 (&to)[4], u32 v, __nv_bfloat162 scale) {
    constexpr u32 MASK = 0x81c081c0, LOW = MASK & 0xffff, REST = 0x6c006c00;
    constexpr u32 MOVES = 1 << 18 | 1 << 13 | 1 << 8;  // s, b and a, m
    const u64 moved = (u64)(v & REST) * MOVES;
    to[0] = bf16_multiply(v & MASK, scale);
    to[1] = bf16_multiply(v << 3 & MASK, scale);
    to[2] = bf16_multiply(v << 6 & MASK, scale);
    to[3] = bf16_multiply((u32(moved >> 32) & LOW) | (u32(moved) & MASK - LOW), scale);
  }

  // Two scales, of bytes in the middle of the halves of `v`.
  static __device__ __forceinline__ __nv_bfloat162 two_scales(u32 v) {
    const u32 scales = (v & 0x0ff00ff0) | 0x70007000;
    return *(const __nv_bfloat162*)&scales;
  }

  static __device__ __forceinline__ Fragment unpack(const typename Base::Raw& raw, int at, int) {
    const u32 bytes = raw.extra[at / 2];
    const __nv_bfloat162 top = two_scales(bytes << 4), bottom = two_scales(bytes >> 4);
    Fragment f;
    unpack_row(f.top, raw.word(at, 0), at % 2 ? __high2bfloat162(top) : __low2bfloat162(top));
    unpack_row(f.bottom, raw.word(at, 1),
               at % 2 ? __high2bfloat162(bottom) : __low2bfloat162(bottom));
    return f;
  }
  __device__ __forceinline__ float scale(int) const { return *matrix_scale * 128; }
};

// The f16 halves of a word.
__device__ __forceinline__ RowPair f16_halves(u32 word) {
  float2 v = __half22float2(*(__half2*)&word);
  return {v.x, v.y};
}

__device__ __forceinline__ u32 bf16_subtract(u32 a, u32 b) {
  __nv_bfloat162 difference = __hsub2(*(__nv_bfloat162*)&a, *(__nv_bfloat162*)&b);
  return *(u32*)&difference;
}

// GGUF's blocks of 32 signed bytes and a scale. bf16 has 128 + q for seven bits q in its fraction;
// the eighth makes what is taken off 256.
template <int K>
struct Q8_0 : Packed<K, 8, 8, 4, 2> {
  using Base = Packed<K, 8, 8, 4, 2>;
  static constexpr bool FOLDS = true, HAS_MINIMA = false;

  static __device__ __forceinline__ u32 signed_pair(u32 v) {
    constexpr u32 ONE_TWO_EIGHT = 0x43004300;
    return bf16_subtract((v & 0x007f007f) | ONE_TWO_EIGHT, (v & 0x00800080) | ONE_TWO_EIGHT);
  }
  static __device__ __forceinline__ Fragment unpack(const typename Base::Raw& raw, int at, int) {
    const uint4& v = raw.v[at];
    return {{signed_pair(v.x), signed_pair(v.x >> 8), signed_pair(v.y), signed_pair(v.y >> 8)},
            {signed_pair(v.z), signed_pair(v.z >> 8), signed_pair(v.w), signed_pair(v.w >> 8)}};
  }
  static __device__ __forceinline__ RowPair scales(const typename Base::Raw& raw, int at) {
    return f16_halves(raw.extra[at]);
  }
  __device__ __forceinline__ float scale(int) const { return 1; }
};

// Four bits q of each number, as q + 128 - OFFSET.
template <u32 OFFSET>
__device__ __forceinline__ void unpack_nibbles(u32 (&to)[4], u32 v) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    to[i] = bf16_subtract((v >> 4 * i & 0x000f000f) | 0x43004300, OFFSET);
}

// GGUF's blocks of 32: four bits q and a scale for q - 8.
template <int K>
struct Q4_0 : Packed<K, 4, 16, 4, 2> {
  using Base = Packed<K, 4, 16, 4, 2>;
  static constexpr bool FOLDS = true, HAS_MINIMA = false;

  static __device__ __forceinline__ Fragment unpack(const typename Base::Raw& raw, int at, int) {
    Fragment f;
    unpack_nibbles<0x43084308>(f.top, raw.word(at, 0));
    unpack_nibbles<0x43084308>(f.bottom, raw.word(at, 1));
    return f;
  }
  static __device__ __forceinline__ RowPair scales(const typename Base::Raw& raw, int at) {
    return f16_halves(raw.extra[at]);
  }
  __device__ __forceinline__ float scale(int) const { return 1; }
};

// GGUF's blocks of 32: four bits q, a scale for q and a minimum to add.
template <int K>
struct Q4_1 : Packed<K, 4, 32, 4, 2> {
  using Base = Packed<K, 4, 32, 4, 2>;
  static constexpr bool FOLDS = true, HAS_MINIMA = true;

  static __device__ __forceinline__ Fragment unpack(const typename Base::Raw& raw, int at, int) {
    Fragment f;
    unpack_nibbles<0x43004300>(f.top, raw.word(at, 0));
    unpack_nibbles<0x43004300>(f.bottom, raw.word(at, 1));
    return f;
  }
  static __device__ __forceinline__ RowPair scales(const typename Base::Raw& raw, int at) {
    return f16_halves(raw.extra[at]);
  }
  static __device__ __forceinline__ RowPair minima(const typename Base::Raw& raw, int at) {
    return f16_halves(raw.extra[4 + at]);
  }
  __device__ __forceinline__ float scale(int) const { return 1; }
};

// The eight numbers of a row, times `scale`, plus `more`.
__device__ __forceinline__ void scale_words(u32 (&words)[4], float scale, float more) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = bf16_pair(bf16_low(words[i]) * scale + more, bf16_high(words[i]) * scale + more);
}
