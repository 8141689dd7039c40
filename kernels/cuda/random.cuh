// Weights that are made up from a seed where they lie: the bytes that the host makes of the same
// seed, when it draws the numbers, stores them in a format and packs them as weights.cuh says.
//
// A number is drawn from 64 bits, which its place and the key of its parameter are mixed to, and
// rounded to bf16. Every operation is rounded by itself, as IEEE 754 has it: none may be contracted
// or approximated.
#pragma once
#include "softmax.cuh"
#include "weights.cuh"

// How the numbers of a matrix are drawn: from + by x, where x is nearly normal, with deviation 1,
// or uniform, from 0 to 1. `first` is the place of the matrix's first among those of its parameter.
struct Drawn {
  u64 key, first;
  float from, by;
  bool uniform;

  // The step of SplitMix64.
  static __device__ __forceinline__ u64 mixed(u64 number) {
    u64 x = number * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
  }

  __device__ __forceinline__ float at(u64 place) const {
    const u64 bits = mixed(key + first + place);
    const int sum = int(bits & 0xffff) + int(bits >> 16 & 0xffff) + int(bits >> 32 & 0xffff) +
                    int(bits >> 48);
    const float x = uniform ? __fdiv_rn(float(int(bits >> 40)), 16777216.f)
                            : __fdiv_rn(__fadd_rn(float(sum), -131070.f), 37837.227f);
    return to_float(__float2bfloat16_rn(__fadd_rn(from, __fmul_rn(by, x))));
  }
};

// Numbers as they are.
template <int THREADS, class T>
__device__ __forceinline__ void make_up(T* to, const Drawn& drawn, u64 count) {
  const u64 stride = (u64)gridDim.x * THREADS;
  for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < count; i += stride)
    to[i] = from_float<T>(drawn.at(i));
}

// The largest magnitude of each row.
template <int THREADS>
__device__ __forceinline__ void row_maxima(float* largest, const Drawn& drawn, int rows,
                                           int columns) {
  __shared__ float shared[THREADS / 32];
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    float most = 0;
    for (int k = threadIdx.x; k < columns; k += THREADS)
      most = fmaxf(most, fabsf(drawn.at((u64)row * columns + k)));
    most = block_max<THREADS>(most, shared);
    if (threadIdx.x == 0) largest[row] = most;
  }
}

// The largest magnitude of a matrix, of those of its rows.
template <int THREADS>
__device__ __forceinline__ float largest_of(const float* largest, int rows) {
  __shared__ float shared[THREADS / 32];
  float most = 0;
  for (int i = threadIdx.x; i < rows; i += THREADS) most = fmaxf(most, largest[i]);
  return block_max<THREADS>(most, shared);
}

// 32 numbers of a row of a matrix, and where they go.
struct Run {
  const Drawn& drawn;
  int rows, columns, row, run;
  u8* to;
  float v[32];

  __device__ __forceinline__ float at(int row, int e) const {
    const int k = run * 32 + e;
    return row < rows && k < columns ? drawn.at((u64)row * columns + k) : 0;
  }
  __device__ __forceinline__ void draw() {
#pragma unroll
    for (int e = 0; e < 32; ++e) v[e] = at(row, e);
  }
  __device__ __forceinline__ float most(int from, int count) const {
    float most = 0;
#pragma unroll
    for (int e = 0; e < count; ++e) most = fmaxf(most, fabsf(v[from + e]));
    return most;
  }

  __device__ __forceinline__ int lane_row() const { return row % 8; }
  __device__ __forceinline__ int bottom() const { return row % 16 / 8; }
  // The run within its record, which has RUNS of them in BYTES bytes.
  template <int RUNS, int BYTES>
  __device__ __forceinline__ u8* record() const {
    const int steps = (columns + RUNS * 32 - 1) / (RUNS * 32);
    return to + ((u64)(row / 16) * steps + run / RUNS) * BYTES;
  }
  // Behind all tiles.
  template <int RUNS, int BYTES>
  __device__ __forceinline__ float* behind() const {
    const int steps = (columns + RUNS * 32 - 1) / (RUNS * 32);
    return (float*)(to + (u64)((rows + 15) / 16) * steps * BYTES);
  }
  // The words of 4-bit numbers, in order of lanes.
  __device__ __forceinline__ u32* word(u8* record, int t) const {
    const int r = run % 4;
    return (u32*)(record + r / 2 * 512 + (4 * lane_row() + t) * 16 + (r % 2 * 2 + bottom()) * 4);
  }
  // The pairs of words of 8-bit numbers.
  __device__ __forceinline__ uint2* pair(u8* record, int t) const {
    return (uint2*)(record + run % 2 * 512 + (4 * lane_row() + t) * 16 + 8 * bottom());
  }
};

__device__ __forceinline__ float inverse(float d) { return d == 0 ? 0 : __fdiv_rn(1, d); }

__device__ __forceinline__ u8 e4m3_of(float x) {
  return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

__device__ __forceinline__ float e4m3_value(u8 code) {
  const int e = code >> 3 & 15, m = code & 7;
  const float size = e == 0 ? m * 0x1p-9f : (8 + m) * __uint_as_float((e + 117) << 23);
  return code & 128 ? -size : size;
}

// The nearest number of E2M1, ties to even.
__device__ __forceinline__ u32 e2m1_of(float x) {
  const float v = fabsf(x);
  const u32 size = (v > 0.25f) + (v >= 0.75f) + (v > 1.25f) + (v >= 1.75f) + (v > 2.5f) +
                   (v >= 3.5f) + (v > 5);
  return size | __float_as_uint(x) >> 31 << 3;
}

// E4M3 with a scale for each row: that of its own largest number, or of the matrix's. If POWERS,
// scales are powers of two.
template <bool POWERS>
struct MakeFp8 {
  static constexpr int RUNS = 2, BYTES = 1024;
  static __device__ __forceinline__ void write(const Run& run, float most) {
    float scale = most == 0 ? 1 : fminf(__fdiv_rn(448, most), 0x1.fffffep127f);
    if (POWERS) scale = __uint_as_float(__float_as_uint(scale) & 0xff800000);
    if (run.run == 0) run.behind<RUNS, BYTES>()[run.row] = __fdiv_rn(1, scale);
    u8* record = run.record<RUNS, BYTES>();
    const int order[8] = {2, 0, 3, 1, 6, 4, 7, 5};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      u32 words[2] = {0, 0};
#pragma unroll
      for (int j = 0; j < 8; ++j)
        words[j / 4] |= (u32)e4m3_of(__fmul_rn(run.v[8 * t + order[j]], scale)) << j % 4 * 8;
      *run.pair(record, t) = make_uint2(words[0], words[1]);
    }
  }
};

// E2M1 with scales for 16 columns of a row, or of 16 rows if SQUARE, and one for the matrix.
template <bool SQUARE>
struct MakeNvfp4 {
  static constexpr int RUNS = 4, BYTES = 1152;

  static __device__ __forceinline__ float most_of(const Run& run, int from) {
    if (!SQUARE) return run.most(from, 16);
    float most = 0;
    for (int row = run.row / 16 * 16; row < run.row / 16 * 16 + 16; ++row) {
      for (int e = from; e < from + 16; ++e) most = fmaxf(most, fabsf(run.at(row, e)));
    }
    return most;
  }

  // The byte of a scale in E4M3.
  static __device__ __forceinline__ u8 scale_byte(u8 code) {
    const int e = code >> 3 & 15, m = code & 7;
    if (e != 0) return 8 * (e + 15) + m;
    return m == 0 ? 0 : m == 1 ? 104 : m < 4 ? 112 + (m - 2) * 4 : 120 + (m - 4) * 2;
  }

  // Where the bits of eight numbers go: weights.cuh has the order.
  static __device__ __forceinline__ u32 placed(const u32 (&codes)[8]) {
    const int places[4][4] = {{6, 7, 8, 15}, {3, 4, 5, 12}, {0, 1, 2, 9}, {14, 10, 11, 13}};
    u32 word = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int e = i / 4, half = e < 6 ? e % 2 : 7 - e;
      word |= (codes[e] >> i % 4 & 1) << (places[e / 2][i % 4] + half * 16);
    }
    return word;
  }

  static __device__ __forceinline__ void write(const Run& run, float most) {
    const float whole = most == 0 ? 1 : fminf(__fdiv_rn(2688, most), 0x1.fffffep127f);
    const float encoding = whole == 0 ? 1 : whole, decoding = __fdiv_rn(1, encoding);
    if (run.run == 0 && run.row == 0) *run.behind<RUNS, BYTES>() = decoding;
    u8* record = run.record<RUNS, BYTES>();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sixth = __fmul_rn(encoding, 1.f / 6);
      const u8 scale = e4m3_of(fminf(__fmul_rn(most_of(run, 16 * h), sixth), 448));
      const float own = __fmul_rn(e4m3_value(scale), decoding);
      const float factor = scale == 0 ? 0 : fminf(__fdiv_rn(1, own), 0x1.fffffep127f);
      record[1024 + (2 * run.lane_row() + h) * 8 + 2 * (run.run % 4) + run.bottom()] =
          scale_byte(scale);
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        u32 codes[8];
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          const float x = __fmul_rn(run.v[16 * h + 8 * t + e], factor);
          codes[e] = scale == 0 ? 0 : e2m1_of(fminf(fmaxf(x, -6), 6));
        }
        *run.word(record, 2 * h + t) = placed(codes);
      }
    }
  }
};

// GGUF's blocks of 32 signed bytes and a scale.
struct MakeQ8_0 {
  static constexpr int RUNS = 2, BYTES = 1088;
  static __device__ __forceinline__ void write(const Run& run, float) {
    const float d = __fdiv_rn(run.most(0, 32), 127), up = inverse(d);
    u8* record = run.record<RUNS, BYTES>();
    *(f16*)(record + 1024 + run.lane_row() * 8 + 4 * (run.run % 2) + 2 * run.bottom()) =
        __float2half_rn(d);
    const int order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      u32 words[2] = {0, 0};
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int q = (int)roundf(__fmul_rn(run.v[8 * t + order[j]], up));
        words[j / 4] |= (u32)(q & 255) << j % 4 * 8;
      }
      *run.pair(record, t) = make_uint2(words[0], words[1]);
    }
  }
};

// GGUF's blocks of 32: four bits and a scale, whose sign is such that the largest becomes -8.
struct MakeQ4_0 {
  static constexpr int RUNS = 4, BYTES = 1152;
  static __device__ __forceinline__ void write(const Run& run, float) {
    float largest = 0;
#pragma unroll
    for (int e = 0; e < 32; ++e) {
      if (fabsf(largest) < fabsf(run.v[e])) largest = run.v[e];
    }
    const float d = __fdiv_rn(largest, -8), up = inverse(d);
    u8* record = run.record<RUNS, BYTES>();
    *(f16*)(record + 1024 + run.lane_row() * 16 + 4 * (run.run % 4) + 2 * run.bottom()) =
        __float2half_rn(d);
    const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      u32 word = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float x = __fadd_rn(__fmul_rn(run.v[8 * t + order[j]], up), 8.5f);
        word |= (u32)fminf(fmaxf(x, 0), 15) << 4 * j;
      }
      *run.word(record, t) = word;
    }
  }
};

// A matrix in the format that `Make` writes. `largest` has the largest magnitude of each row; if
// WHOLE, that of the matrix counts. Formats that ask for neither are given none.
template <class Make, bool WHOLE, int THREADS>
__device__ __forceinline__ void make_up_packed(u8* to, const Drawn& drawn, int rows, int columns,
                                               const float* largest) {
  const float most = WHOLE ? largest_of<THREADS>(largest, rows) : 0;
  const int runs = (columns + 31) / 32;
  const u64 stride = (u64)gridDim.x * THREADS;
  for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < (u64)rows * runs; i += stride) {
    Run run{drawn, rows, columns, int(i / runs), int(i % runs), to};
    run.draw();
    Make::write(run, WHOLE ? most : largest ? largest[run.row] : 0);
  }
}
