// What is computed row by row or position by position: ssd_token.cuh, conv_token.cuh, norm.cuh,
// arrange.cuh, softmax.cuh, rows.cuh and argmax.cuh.
#include "argmax.cuh"
#include "arrange.cuh"
#include "check.h"
#include "conv_token.cuh"
#include "rows.cuh"
#include "softmax.cuh"
#include "ssd_token.cuh"

struct Twice {
  __device__ float operator()(int, float v) const { return 2 * v; }
  __device__ float operator()(int, int, float v) const { return 2 * v; }
  __device__ int at(int) const { return 0; }
};

struct Rows {
  const float* x;
  int width;
  __device__ float operator()(int row, int k) const { return x[row * width + k]; }
  __device__ float4 four(int row, int k) const { return load_4(x + row * width + k); }
};

template <class M>
__global__ void ssd(const float* x, const float* dt, const float* a, const float* b, const float* c,
                    float* state, float* y) {
  ssd_token<M>(x, dt, a, b, c, state, Twice{}, y, blockIdx.x);
}

template <int H, int J, int D, int N>
void test_ssd() {
  using M = SsdToken<J, D, N>;
  Array<float> x(H * J * D, 1), dt(H * J, 0.3), a(H * J, 1), b(H * N, 1), c(H * N, 1);
  Array<float> state(H * J * D * N, 1), y(H * J * D);
  const std::vector<float> before = state.host;
  launch(ssd<M>, dim3(H * J), dim3(M::THREADS), 0, x.device, dt.device, a.device, b.device,
         c.device, state.device, y.device);
  y.fetch(), state.fetch();
  const auto next = [&](int row, int n) {
    const int head = row / D;
    return before[row * N + n] * std::exp(dt[head] * a[head]) +
           x[row] * dt[head] * b[head / J * N + n];
  };
  check("ssd: state", error(state, H * J * D, N, N, next), 1e-6);
  check("ssd: y", error(y, 1, H * J * D, 0, [&](int, int row) {
          double sum = 0;
          for (int n = 0; n < N; ++n) sum += next(row, n) * c[row / D / J * N + n];
          return 2 * sum;
        }), 1e-6);
}

template <int C, int W>
__global__ void conv(const float* x, const bf16* w, const bf16* bias, float* window, float* y) {
  conv_token<C, W>(x, w, bias, window, 0, 1, Twice{}, y, blockIdx.x);
}

void test_conv() {
  constexpr int C = 300, W = 4;
  Array<float> x(C, 1), window(W * C, 1), y(C);
  Array<bf16> w(C * W, 1), bias(C, 1);
  const std::vector<float> before = window.host;
  launch(conv<C, W>, dim3(2), dim3(256), 0, x.device, w.device, bias.device, window.device,
         y.device);
  y.fetch(), window.fetch();
  const auto next = [&](int i, int c) { return i + 1 < W ? before[(i + 1) * C + c] : x[c]; };
  check("conv: window", error(window, W, C, C, next), 0);
  check("conv: y", error(y, 1, C, C, [&](int, int c) {
          double sum = bias[c];
          for (int i = 0; i < W; ++i) sum += next(i, c) * w[c * W + i];
          return 2 * sum;
        }), 1e-6);
}

template <int K, bool CENTRED>
__global__ void normalise(const float* x, float* y) {
  norm<K, CENTRED, 256>(Rows{x, K}, 1e-5f, Twice{}, y, blockIdx.x);
}

template <int K, bool CENTRED>
void test_norm() {
  Array<float> x(3 * K, 2), y(3 * K);
  launch(normalise<K, CENTRED>, dim3(3), dim3(256), 0, x.device, y.device);
  y.fetch();
  check(CENTRED ? "layer norm" : "rms norm", error(y, 3, K, K, [&](int row, int k) {
          double mean = 0, square = 0;
          for (int i = 0; i < K; ++i) mean += CENTRED ? x[row * K + i] / K : 0;
          for (int i = 0; i < K; ++i) square += std::pow(x[row * K + i] - mean, 2);
          return 2 * (x[row * K + k] - mean) / std::sqrt(square / K + 1e-5);
        }), 1e-6);
}

// By the root of the mean square, then doubled.
template <int K>
double twice_normed(const Array<float>& x, int row, int k) {
  double square = 0;
  for (int i = 0; i < K; ++i) square += std::pow(x[row * K + i], 2);
  return k < K ? 2 * x[row * K + k] / std::sqrt(square / K + 1e-5) : 0;
}

template <int K>
__global__ void rounded(const float* x, u8* y, float* scales) {
  quantise<K, true, 256>(Rows{x, K}, 1e-5f, Twice{}, y, scales, blockIdx.x);
}
template <int K>
__global__ void arranged(const float* x, bf16* y) {
  arrange<K, true, 256>(Rows{x, K}, 1e-5f, Twice{}, y, blockIdx.x);
}

// What E4M3 in rows of `width` stands for.
Array<float>& read_e4m3(Array<float>& to, Array<u8>& bytes, Array<float>& scales, int width) {
  bytes.fetch(), scales.fetch();
  for (size_t i = 0; i < to.host.size(); ++i) {
    const __half_raw half = __nv_cvt_fp8_to_halfraw(bytes[i], __NV_E4M3);
    to.host[i] = __half2float(f16(half)) * scales[i / width];
  }
  return to;
}

template <int K>
void test_arrange() {
  constexpr int WIDTH = (K + 31) / 32 * 32;
  Array<float> x(3 * K, 2), scales(3), got(3 * WIDTH);
  Array<u8> bytes(3 * WIDTH);
  launch(rounded<K>, dim3(3), dim3(256), 0, x.device, bytes.device, scales.device);
  check("as e4m3", error(read_e4m3(got, bytes, scales, WIDTH), 3, WIDTH, WIDTH, [&](int row, int place) {
          return twice_normed<K>(x, row, arranged_column(1, place));
        }), 4e-2);
  Array<bf16> y(3 * WIDTH);
  launch(arranged<K>, dim3(3), dim3(256), 0, x.device, y.device);
  y.fetch();
  check("as bf16", error(y, 3, WIDTH, WIDTH, [&](int row, int place) {
          return twice_normed<K>(x, row, arranged_column(2, place));
        }), 4e-3);
}

template <int K>
__global__ void rounded_as_is(const float* x, u8* y, float* scales) {
  quantise<K, false, 64>(Rows{x, K}, 0, Twice{}, y, scales, blockIdx.x);
}

// Numbers so small that 448 over the largest is infinite, and a row of zeros.
void test_tiny_rows() {
  constexpr int K = 64;
  Array<float> x(2 * K, 1e-37), scales(2), got(2 * K);
  for (int k = 0; k < K; ++k) x.host[K + k] = 0;
  x.send();
  Array<u8> bytes(2 * K);
  launch(rounded_as_is<K>, dim3(2), dim3(64), 0, x.device, bytes.device, scales.device);
  // In units of 1e-37, since squares would be zero.
  for (float& it : read_e4m3(got, bytes, scales, K).host) it *= 1e37f;
  check("tiny rows", error(got, 2, K, K, [&](int row, int place) {
          return 2e37 * x[row * K + arranged_column(1, place)];
        }), 4e-2);
}

__global__ void soften(const float* x, float* y, int size) {
  softmax<256>(Rows{x, size}, y, size, blockIdx.x);
}

void test_softmax() {
  constexpr int SIZE = 1001;
  Array<float> x(2 * SIZE, 3), y(2 * SIZE);
  launch(soften, dim3(2), dim3(256), 0, x.device, y.device, SIZE);
  y.fetch();
  check("softmax", error(y, 2, SIZE, SIZE, [&](int row, int k) {
          double sum = 0;
          for (int i = 0; i < SIZE; ++i) sum += std::exp(x[row * SIZE + i] - x[row * SIZE + k]);
          return 1 / sum;
        }), 1e-6);
}

struct Table {
  const bf16* x;
  __device__ float operator()(int row, int k) const { return to_float(x[row * 100 + k]); }
};

__global__ void look_up(const bf16* table, const int* index, float* y) {
  gather<128>(y, Table{table}, index, 3, 50, 100);
}

void test_gather() {
  Array<bf16> table(50 * 100, 1);
  Array<int> index(3);
  Array<float> y(300);
  index.host = {7, 99, -1}, index.send();  // outside: zeros
  launch(look_up, dim3(2), dim3(128), 0, table.device, index.device, y.device);
  y.fetch();
  check("gather", error(y, 3, 100, 100,
                        [&](int row, int k) { return row == 0 ? table[700 + k] : 0.0; }), 0);
}

constexpr int V = 5003, PARTS = 7;

__global__ void greedy(const float* x, int* y, Best* scratch, u32* counters) {
  argmax<V, PARTS>(x, y, scratch, counters, blockIdx.x, blockIdx.y);
}

void test_argmax() {
  Array<float> x(3 * V, 1);
  Array<int> y(3);
  Array<u8> scratch(3 * PARTS * sizeof(Best));
  Array<u32> counters(3);
  counters.host = {0, 0, 0}, counters.send();
  x.host[1234] = 50, x.host[V + 77] = x.host[V + 4000] = 50, x.host[3 * V - 1] = 50;
  x.send();
  launch(greedy, dim3(PARTS, 3), dim3(256), 0, x.device, y.device, (Best*)scratch.device,
         counters.device);
  y.fetch();
  const int want[] = {1234, 77, V - 1};
  check("argmax", error(y, 1, 3, 3, [&](int, int i) { return want[i]; }), 0);
}

int main() {
  test_ssd<2, 3, 80, 128>();
  test_ssd<1, 2, 100, 300>();
  test_ssd<2, 2, 16, 16>();
  test_conv();
  test_norm<777, false>();
  test_norm<64, true>();
  test_arrange<1044>();
  test_tiny_rows();
  test_softmax();
  test_gather();
  test_argmax();
  return failures != 0;
}
