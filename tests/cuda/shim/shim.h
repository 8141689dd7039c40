// Runs CUDA kernels on the CPU, to check them where there is no GPU. Every thread of a block is a
// fiber; clusters run one after the other, and the blocks of one by turns, each on a thread of the
// CPU, where `__shared__` arrays are its own. A wrong barrier shows as a deadlock or as a wrong
// result; races within a warp, the order of memory and speed do not show. Outside of clusters,
// `__shared__` arrays keep their poison between blocks, as on a GPU.
#pragma once
#include <sys/mman.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __grid_constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __shared__ static __thread
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

namespace shim {

struct Fiber {
  void* stack_pointer;
  uint3 index;
  bool done;
};

// Threads that wait for each other: how many have come, and how often all had.
struct Meeting {
  unsigned arrived = 0, generation = 0;
};

struct Warp {
  Meeting meeting;
  alignas(16) unsigned char lanes[32][64];  // what each lane gives to the others
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<unsigned char> memory;
  Meeting all, named[16 + 8];  // the last eight: warpgroups
  unsigned current, alive, idle, rank;
  uint3 index;
  void* host;
  char* storage;  // what belongs to its thread of the CPU

  // Dynamic shared memory, aligned to 1024 bytes.
  unsigned char* shared() {
    return (unsigned char*)(((uintptr_t)memory.data() + 1023) & ~(uintptr_t)1023);
  }
};

// Blocks that take turns.
struct Cluster {
  std::vector<Block> blocks;
  Meeting all;
  unsigned idle;
};

extern __thread Block* now;
extern Cluster cluster;
extern dim3 block_size, grid_size;

inline Block& block() { return *now; }
inline unsigned char* shared() { return block().shared(); }

void yield();     // another fiber's turn, or another block's
void progress();  // this fiber did not wait in vain
void meet(Meeting& meeting, unsigned threads);
void meet_block();
void meet_warp(unsigned mask);

// Runs `kernel` for each thread of each block; so many blocks along x are a cluster.
void launch(dim3 grid, dim3 size, size_t shared_bytes, std::function<void()> kernel,
            unsigned blocks = 1);

inline unsigned lane() { return block().current % 32; }
inline Warp& warp() { return block().warps[block().current / 32]; }

// What stands at the same place in another block of the cluster.
template <class T>
T* at(T* p, unsigned rank) {
  Block &mine = block(), &its = cluster.blocks[rank];
  const size_t offset = (unsigned char*)p - mine.shared();
  if (offset < mine.memory.size()) return (T*)(its.shared() + offset);
  return (T*)((char*)p - mine.storage + its.storage);
}

// Gives `value` to the warp, and lets `read` look at what all lanes gave: `read(get)`.
template <class T, class Read>
auto together(unsigned mask, const T& value, Read read) {
  static_assert(sizeof(T) <= 64);
  Warp& w = warp();
  memcpy(w.lanes[lane()], &value, sizeof value);
  meet_warp(mask);
  const auto result = read([&](unsigned from) {
    T other;
    memcpy(&other, w.lanes[from % 32], sizeof other);
    return other;
  });
  meet_warp(mask);
  return result;
}

template <class T>
T exchange(unsigned mask, T value, unsigned from) {
  return together(mask, value, [&](auto get) { return get(from); });
}

}  // namespace shim

#define threadIdx (shim::block().fibers[shim::block().current].index)
#define blockIdx (shim::block().index)
#define blockDim shim::block_size
#define gridDim shim::grid_size
using std::max;
using std::min;

inline void __syncthreads() { shim::meet_block(); }
inline void __syncwarp(unsigned mask = ~0u) { shim::meet_warp(mask); }
inline void __threadfence() {}

template <class T>
T __shfl_xor_sync(unsigned mask, T v, int other) {
  return shim::exchange(mask, v, shim::lane() ^ other);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int from) {
  return shim::exchange(mask, v, from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int by) {
  const int from = int(shim::lane()) - by;
  return shim::exchange(mask, v, from >= 0 ? from : shim::lane());
}

template <class T>
T atomicAdd(T* to, T by) {
  const T before = *to;
  *to = before + by;
  return before;
}

template <class T>
T __ldcg(const T* p) {
  return *p;
}

template <class T>
T __ldcs(const T* p) {
  return *p;
}

template <class T>
void __stcs(T* p, T x) {
  *p = x;
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}
// The four bytes of a and b that the nibbles of `select` name.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
  const unsigned long long all = a | (unsigned long long)b << 32;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i)
    result |= unsigned(all >> 8 * (select >> 4 * i & 7) & 255) << 8 * i;
  return result;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline float __int_as_float(int i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}
inline int __float_as_int(float f) {
  int i;
  memcpy(&i, &f, 4);
  return i;
}
inline float __uint_as_float(unsigned i) { return __int_as_float(int(i)); }
inline int __float2int_rz(float x) { return int(x); }
inline unsigned __float_as_uint(float f) { return unsigned(__float_as_int(f)); }
