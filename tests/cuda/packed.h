// Matrices of random codes, packed as weights.cuh describes, with their values in f64.
#pragma once
#include "check.h"

enum class Format { FP8, NVFP4, Q8_0, Q4_0, Q4_1 };

inline u32 random_bits(int bits) { return u32(std::fabs(normal()) * 65536) & ((1u << bits) - 1); }

inline double e4m3(int code) {
  const int e = code >> 3 & 15, m = code & 7;
  const double size = e == 0 ? std::ldexp(m, -9) : std::ldexp(8 + m, e - 10);
  return code & 128 ? -size : size;
}

inline double e2m1(int code) {
  const double sizes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -sizes[code & 7] : sizes[code & 7];
}

// A power of two, which f16 and f32 hold.
inline float random_scale() { return std::ldexp(1.f, -4 - int(random_bits(2))); }

struct PackedMatrix {
  Format format;
  int n, k, step, steps, extras;
  Array<u8> bytes;
  Array<float> scales;
  std::vector<double> values;

  static bool has_bytes(Format f) {
    return f == Format::FP8 || f == Format::Q8_0;
  }
  static int extras_of(Format f) {
    return f == Format::FP8 ? 0 : f == Format::Q4_1 ? 256 : has_bytes(f) ? 64 : 128;
  }

  PackedMatrix(Format format, int n, int k)
      : format(format), n(n), k(k), step(has_bytes(format) ? 64 : 128),
        steps((k + step - 1) / step), extras(extras_of(format)),
        bytes((size_t)(n + 15) / 16 * steps * (1024 + extras)), scales(n), values((size_t)n * k) {
    memset(bytes.host.data(), 0, bytes.host.size());
    for (float& it : scales.host) it = random_scale();
    for (int row = 0; row < n; ++row) {
      for (int first = 0; first < k; first += 16) fill(row, first);
    }
    bytes.send(), scales.send();
  }

  // Where what belongs to a row of a record lies in its extras: `size` bytes for 32 columns.
  u8* extra(u8* record, int row, int run, int size, int lines) {
    return record + 1024 + row % 8 * lines + run * 2 * size + row / 8 * size;
  }
  template <class T>
  static void put(u8* to, T x) {
    memcpy(to, &x, sizeof x);
  }

  // Sixteen columns of a row.
  void fill(int row, int first) {
    u8* record = &bytes.host[((size_t)row / 16 * steps + first / step) * (1024 + extras)];
    const int in_tile = row % 16, run = first % step / 32;
    double scale = scales[format == Format::NVFP4 ? 0 : row], minimum = 0;
    if (format == Format::Q8_0) put(extra(record, in_tile, run, 2, 8), f16(float(scale)));
    if (format == Format::Q4_0) put(extra(record, in_tile, run, 2, 16), f16(float(scale)));
    if (format == Format::Q4_1) {
      minimum = -3 * scale;
      put(extra(record, in_tile, run, 2, 32), f16(float(scale)));
      put(extra(record, in_tile, run, 2, 32) + 16, f16(float(minimum)));
    }
    if (format == Format::NVFP4) {
      // Normal and subnormal scales.
      const int code = 1 + random_bits(5) * 3;
      int e;
      const double fraction = std::frexp(e4m3(code), &e);
      record[1024 + (in_tile % 8 * 2 + first / 16 % 2) * 8 + run * 2 + in_tile / 8] =
          u8(8 * (e - 1 + 22) + int((2 * fraction - 1) * 8));
      scale *= e4m3(code);
    }
    for (int column = first; column < first + 16 && column < k; ++column)
      values[(size_t)row * k + column] = place(record, in_tile, column % step) * scale + minimum;
  }

  // Writes a random number to its place, and returns it.
  double place(u8* record, int row, int column) {
    const int run = column / 32, lane = row % 8 * 4 + column % 32 / 8, e = column % 8;
    if (has_bytes(format)) {
      const int floats[] = {1, 3, 0, 2}, integers[] = {0, 2, 1, 3};
      const u8 code = u8(format == Format::Q8_0 ? random_bits(8) : random_bits(8) & 0xbf);
      const int at = (format == Format::Q8_0 ? integers : floats)[e % 4] + e / 4 * 4;
      record[run * 512 + lane * 16 + row / 8 * 8 + at] = code;
      return format == Format::Q8_0 ? double((signed char)code) : e4m3(code);
    }
    const u32 code = random_bits(4);
    u32 word, bits = code << 4 * (e / 2 + e % 2 * 4);
    if (format == Format::NVFP4) {
      const int places[4][4] = {{6, 7, 8, 15}, {3, 4, 5, 12}, {0, 1, 2, 9}, {14, 10, 11, 13}};
      const int half = e < 6 ? e % 2 : 7 - e;
      bits = 0;
      for (int i = 0; i < 4; ++i) bits |= (code >> i & 1) << (places[e / 2][i] + half * 16);
    }
    u8* at = record + run / 2 * 512 + lane * 16 + (run % 2 * 2 + row / 8) * 4;
    memcpy(&word, at, 4);
    put(at, word | bits);
    return format == Format::NVFP4 ? e2m1(code) : format == Format::Q4_0 ? code - 8. : code;
  }
};

// The matrix as a kernel reads it; some formats have their scales apart.
template <class W>
W weights(const PackedMatrix& m) {
  if constexpr (sizeof(W) == 2 * sizeof(const u8*)) {
    return W{m.bytes.device, m.n};
  } else {
    return W{m.bytes.device, m.n, m.scales.device};
  }
}

constexpr int arranged_width(int k) { return (k + 31) / 32 * 32; }

// Rows of x as arrange.cuh leaves them.
template <class T>
void arrange_rows(Array<T>& y, const Array<T>& x, int rows, int k) {
  const int width = arranged_width(k);
  for (int i = 0; i < rows * width; ++i) {
    const int column = arranged_column(sizeof(T), i % width);
    y.host[i] = column < k ? x.host[i / width * k + column] : T(0.f);
  }
  y.send();
}
