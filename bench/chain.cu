// A layer's kernels of one text's next token by themselves, in a chain: the products and the
// attention of Qwen3-8B, for some layers with weights of their own, as one CUDA graph with
// programmatic dependent launch. To change a kernel and see what a layer takes, in seconds and
// without the compiler. Norms and rotations of queries and keys are left out.
//
//   nvcc -O3 -std=c++17 -arch=sm_90a -I kernels/cuda -DFORMAT=8 bench/chain.cu -o chain
//   ./chain [POSITIONS]
//
// FORMAT is 16 (bf16), 8 (FP8 with scales of rows) or 4 (NVFP4). Prints microseconds of a layer
// with attention and without it, and what reading the weights takes at 3.09 TB/s.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "attention_mma.cuh"
#include "skinny.cuh"

#ifndef FORMAT
#define FORMAT 16
#endif

constexpr int LAYERS = 24, REPEATS = 25, SMS = 132;
constexpr int E = 4096, F = 12288, HEADS = 8, GROUP = 4, P = 128, QKV = (GROUP + 2) * HEADS * P;
using A = AttentionMma<HEADS, GROUP, P, P, 0, 2 * SMS / HEADS>;

void must(cudaError_t e, int line) {
  if (e == cudaSuccess) return;
  fprintf(stderr, "chain.cu:%d: %s\n", line, cudaGetErrorString(e));
  exit(1);
}
#define MUST(call) must(call, __LINE__)

// A matrix of rows of K numbers, and its bytes.
#if FORMAT == 8
template <int K>
using Matrix = Fp8<K>;
#elif FORMAT == 4
template <int K>
using Matrix = Nvfp4<K>;
#else
template <int K>
using Matrix = Rows<K, bf16>;
#endif
template <int K>
__host__ __device__ constexpr size_t bytes_of(int rows) {
  return FORMAT == 4 ? (size_t)rows * K / 2048 * 1152 : (size_t)rows * K * FORMAT / 8;
}
template <int K>
__device__ Matrix<K> matrix(const u8* w, int rows, const float* scales) {
#if FORMAT == 16
  return {(const bf16*)w, rows};
#else
  return {{w, rows}, scales};
#endif
}

struct Plain {
  __device__ float operator()(int, int, float p, float) const { return p; }
};
struct Added {
  const float* y;
  __device__ float operator()(int, int n, float p, float) const { return p + y[n]; }
};
struct Gated {
  __device__ float operator()(int, int, float p, float q) const {
    return p / (1 + __expf(-p)) * q;
  }
};

struct Buffers {
  float *x, *gain, *scales, *y;
  bf16* half;
};

template <int K, int PRODUCTS, int PARTS>
using Policy = Skinny<Matrix<K>, PRODUCTS, 1, PARTS, true>;

using Normed = Policy<E, 1, 2>;
using GatedPair = Policy<E, 2, 2>;
template <int K>
using AddedTo = Policy<K, 1, 1>;

__global__ void __launch_bounds__(Normed::THREADS, 1) normed(const u8* w, Buffers b, int blocks) {
  SHARED(u8, shared);
  const NormedRows<float, float> in{b.x, E, b.gain, 1e-6f};
  skinny(in, 1, shared,
         skinny_part<Normed>({matrix<E>(w, QKV, b.scales)}, Plain{}, b.y, QKV, 0, blocks));
}
template <int K>
__global__ void __launch_bounds__(AddedTo<K>::THREADS, 1)
    added(const u8* w, Buffers b, int blocks) {
  SHARED(u8, shared);
  const PlainRows<bf16> in{b.half, K};
  skinny(in, 1, shared,
         skinny_part<AddedTo<K>>({matrix<K>(w, E, b.scales)}, Added{b.y}, b.y, E, 0, blocks));
}
__global__ void __launch_bounds__(GatedPair::THREADS, 1) gated(const u8* w, Buffers b, int blocks) {
  SHARED(u8, shared);
  const NormedRows<float, float> in{b.x, E, b.gain, 1e-6f};
  const u8* up = w + bytes_of<E>(F);
  skinny(in, 1, shared,
         skinny_part<GatedPair>({matrix<E>(w, F, b.scales), matrix<E>(up, F, b.scales)}, Gated{},
                                b.half, F, 0, blocks));
}
__global__ void __launch_bounds__(A::THREADS, 3)
    attention(const bf16* cache, const int* past, Buffers b, float* scratch, u32* counters) {
  const bf16* values = cache + (size_t)(*past + 1) * HEADS * P;
  attend<AttentionMmaBlock, A>(b.half, cache, values, past, 0.088f, b.half, scratch, counters,
                               blockIdx.x);
}

// Numbers of every format, none larger than 2.
__global__ void fill(u32* to, size_t n) {
  const size_t threads = (size_t)gridDim.x * blockDim.x;
  for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += threads) {
    u64 z = (i + 7) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 29) * 0xBF58476D1CE4E5B9ull;
    to[i] = (u32)(z >> 32) & 0xbfbfbfbf;
  }
}
template <class T>
T* random_of(size_t n) {
  T* p;
  MUST(cudaMalloc(&p, n * sizeof(T) + 16));
  fill<<<1024, 256>>>((u32*)p, n * sizeof(T) / 4);
  return p;
}

template <class... P, class... Given>
void launch(cudaStream_t s, void (*kernel)(P...), int blocks, int threads, int shared, Given... a) {
  MUST(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks, config.blockDim = threads, config.dynamicSmemBytes = shared;
  config.stream = s, config.attrs = &early, config.numAttrs = 1;
  MUST(cudaLaunchKernelEx(&config, kernel, P(a)...));
}

// The fewest blocks of which none has more tiles than if there were one for each multiprocessor.
int blocks_of(int rows) {
  const int tiles = rows / 16, each = (tiles + SMS - 1) / SMS;
  return (tiles + each - 1) / each;
}

int main(int argc, char** argv) {
  int positions = argc > 1 ? atoi(argv[1]) : 1024;
  const size_t sizes[] = {bytes_of<E>(QKV), bytes_of<E>(E), bytes_of<E>(2 * F), bytes_of<F>(E)};
  const size_t layer = sizes[0] + sizes[1] + sizes[2] + sizes[3];
  const size_t cache = (size_t)2 * (positions + 1) * HEADS * P;
  const u8* weights = random_of<u8>(layer * LAYERS);
  const bf16* caches = random_of<bf16>(cache * LAYERS);
  const Buffers b = {random_of<float>(F), random_of<float>(F), random_of<float>(F),
                     random_of<float>(F), random_of<bf16>(F)};
  float* scratch = random_of<float>(A::SCRATCH);
  u32* counters = random_of<u32>(A::COUNTERS);
  int* past = random_of<int>(1);
  MUST(cudaMemset(counters, 0, A::COUNTERS * sizeof(u32)));
  MUST(cudaMemcpy(past, &positions, sizeof positions, cudaMemcpyHostToDevice));
  cudaStream_t s;
  MUST(cudaStreamCreate(&s));

  const auto time = [&](bool attends) {
    MUST(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < LAYERS; ++i) {
      const u8* w = weights + layer * i;
      const auto product = [&](void (*kernel)(const u8*, Buffers, int), int threads, int rows,
                               size_t bytes) {
        launch(s, kernel, blocks_of(rows), threads, SKINNY_SHARED, w, b, blocks_of(rows));
        w += bytes;
      };
      product(normed, Normed::THREADS, QKV, sizes[0]);
      if (attends)
        launch(s, attention, A::BLOCKS, A::THREADS, 0, caches + cache * i, past, b, scratch,
               counters);
      product(added<E>, AddedTo<E>::THREADS, E, sizes[1]);
      product(gated, GatedPair::THREADS, F, sizes[2]);
      product(added<F>, AddedTo<F>::THREADS, E, sizes[3]);
    }
    cudaGraph_t graph;
    cudaGraphExec_t run;
    MUST(cudaStreamEndCapture(s, &graph));
    MUST(cudaGraphInstantiate(&run, graph, 0));
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    std::vector<float> times(REPEATS);
    for (float& it : times) {
      MUST(cudaEventRecord(begin, s));
      MUST(cudaGraphLaunch(run, s));
      MUST(cudaEventRecord(end, s));
      MUST(cudaEventSynchronize(end));
      MUST(cudaEventElapsedTime(&it, begin, end));
    }
    std::sort(times.begin(), times.end());
    return times[REPEATS / 2] * 1000 / LAYERS;
  };
  const float with = time(true), without = time(false);
  printf("%d bits: %.2f us a layer, %.2f without attention; its weights take %.2f\n", FORMAT, with,
         without, layer / 3.09e6);
}
