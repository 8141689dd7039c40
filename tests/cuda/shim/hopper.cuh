// What hopper.cuh offers, on the CPU: barriers, copies of boxes, clusters, products of a warpgroup
// as the PTX ISA defines them.
#pragma once
#include "ptx.cuh"

// pointer, bytes of an element, extents, strides in bytes (of the dimensions after the first), box,
// swizzled.
struct alignas(64) TensorMap {
  const unsigned char* data;
  u32 element, extent[3];
  u64 stride[2];
  u32 box[3], swizzled;
};
static_assert(sizeof(TensorMap) <= 128);

using Barrier = u64;

namespace shim {

struct BarrierState {
  int16_t expected, pending;
  int32_t bytes : 31;
  u32 phase : 1;
};
static_assert(sizeof(BarrierState) == sizeof(Barrier));

inline BarrierState* state(Barrier* b) { return (BarrierState*)b; }

inline void settle(BarrierState* b) {
  if (b->pending == 0 && b->bytes == 0) {
    b->phase ^= 1;
    b->pending = b->expected;
    progress();
  }
}

inline unsigned offset(const void* p) { return (const unsigned char*)p - shared(); }
inline unsigned swizzle(unsigned at) { return at ^ ((at >> 7 & 7) << 4); }

}  // namespace shim

inline void barrier_init(Barrier* b, int arrivals) {
  *shim::state(b) = {int16_t(arrivals), int16_t(arrivals), 0, 0};
}
inline void barrier_init_fence() {}
inline void barrier_expect(Barrier* b, int bytes) {
  shim::state(b)->bytes += bytes;
  --shim::state(b)->pending;
  shim::settle(shim::state(b));
}
inline void barrier_arrive(Barrier* b) { barrier_expect(b, 0); }
inline void barrier_arrive_at(Barrier* b, u32 rank) { barrier_expect(shim::at(b, rank), 0); }
inline void barrier_wait(Barrier* b, int phase) {
  const u32 before = phase;
  while (((volatile shim::BarrierState*)b)->phase == before) shim::yield();
  shim::progress();
}

inline void load_bytes(void* to, const void* from, int bytes, Barrier* b) {
  if (bytes % 16 || (u64)from % 16 || shim::offset(to) % 16) {
    fprintf(stderr, "%d bytes from %p to offset %u\n", bytes, from, shim::offset(to));
    abort();
  }
  memcpy(to, from, bytes);
  shim::state(b)->bytes -= bytes;
  shim::settle(shim::state(b));
}

namespace shim {

inline void copy_box(Block& block, void* to, const TensorMap& m, Barrier* b, int x, int y, int z) {
  const u32 row = m.box[0] * m.element, base = offset(to);
  if (m.swizzled && (base % 1024 || row != 128)) {
    fprintf(stderr, "a swizzled box of %u bytes a row goes to offset %u\n", row, base);
    abort();
  }
  u32 at = base;
  for (u32 k = 0; k < m.box[2]; ++k) {
    for (u32 j = 0; j < m.box[1]; ++j) {
      for (u32 i = 0; i < m.box[0]; ++i, at += m.element) {
        unsigned char* p = block.shared() + (m.swizzled ? swizzle(at) : at);
        const bool inside =
            u32(x + i) < m.extent[0] && u32(y + j) < m.extent[1] && u32(z + k) < m.extent[2];
        const u64 from = (y + j) * m.stride[0] + (z + k) * m.stride[1] + u64(x + i) * m.element;
        if (inside) memcpy(p, m.data + from, m.element);
        else memset(p, 0, m.element);
      }
    }
  }
  state(b)->bytes -= at - base;
  settle(state(b));
}

}  // namespace shim

inline void load_box(void* to, const TensorMap& m, Barrier* b, int x, int y) {
  shim::copy_box(shim::block(), to, m, b, x, y, 0);
}
inline void load_box_to(void* to, const TensorMap& m, Barrier* b, int x, int y, u16 blocks) {
  for (shim::Block& it : shim::cluster.blocks) {
    if (blocks >> it.rank & 1) shim::copy_box(it, to, m, shim::at(b, it.rank), x, y, 0);
  }
}

inline void fence_async() {}
inline u32 cluster_rank() { return shim::block().rank; }
inline float load_at(const float* p, u32 rank) { return *shim::at(p, rank); }
inline void cluster_arrive() {}
inline void cluster_wait() {
  const unsigned threads = shim::block().fibers.size() * shim::cluster.blocks.size();
  shim::meet(shim::cluster.all, threads);
}
inline void named_sync(int id, int threads) { shim::meet(shim::block().named[id], threads); }
template <int>
void give_registers() {}
template <int>
void take_registers() {}

inline void wgmma_fence() {}
inline void wgmma_commit() {}
// All of a warpgroup get here before its tiles may be overwritten.
template <int>
void wgmma_wait() {
  shim::meet(shim::block().named[16 + threadIdx.x / 128], 128);
}

inline u64 tile(const void* p) {
  return shim::offset(p) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
inline u64 tile_across(const void* p, u32 block) {
  return shim::offset(p) >> 4 | u64(block >> 4) << 16 | 64ull << 32 | 1ull << 62;
}

namespace shim {

inline u32 start(u64 tile) { return u32(tile & 0x3fff) << 4; }
inline u32 leading(u64 tile) { return u32(tile >> 16 & 0x3fff) << 4; }
inline u32 stride(u64 tile) { return u32(tile >> 32 & 0x3fff) << 4; }

template <class T>
float along(u64 t, unsigned row, unsigned k) {
  T v;
  memcpy(&v, shared() + swizzle(start(t) + row / 8 * stride(t) + row % 8 * 128 + k * sizeof(T)),
         sizeof v);
  return float(v);
}
inline float across(u64 t, unsigned k, unsigned column) {
  __nv_bfloat16 v;
  const u32 at =
      start(t) + column / 64 * leading(t) + k / 8 * stride(t) + k % 8 * 128 + column % 64 * 2;
  memcpy(&v, shared() + swizzle(at), sizeof v);
  return float(v);
}

// d (+)= a b, where a(row, k) is of 64 rows and b(k, column); rows are those of this thread.
template <int K, int REGISTERS, class A, class B>
void multiply(float (&d)[REGISTERS], int add, A a, B b) {
  const unsigned t = threadIdx.x % 128, row = t / 32 * 16 + t % 32 / 4;
  for (int i = 0; i < REGISTERS; i += 4) {
    for (unsigned e = 0; e < 2; ++e) {
      const unsigned column = i / 4 * 8 + t % 4 * 2 + e;
      float sums[2] = {0, 0};
      for (unsigned k = 0; k < K; ++k) {
        const float right = b(k, column);
        sums[0] += a(row, k) * right;
        sums[1] += a(row + 8, k) * right;
      }
      for (int h = 0; h < 2; ++h) d[i + 2 * h + e] = (add ? d[i + 2 * h + e] : 0) + sums[h];
    }
  }
}

}  // namespace shim

template <int R>
void wgmma_bf16(float (&d)[R], u64 a, u64 b, int add) {
  const auto left = [&](unsigned r, unsigned k) { return shim::along<__nv_bfloat16>(a, r, k); };
  shim::multiply<16>(d, add, left,
                     [&](unsigned k, unsigned c) { return shim::along<__nv_bfloat16>(b, c, k); });
}

namespace shim {

// What the four lanes of two rows have of a fragment of T, K numbers a row: of this thread's row
// and of eight below.
template <class T, int K>
struct Rows {
  static constexpr int EACH = 4 / sizeof(T);
  float rows[2][K];
  unsigned top = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;

  explicit Rows(const u32 (&a)[4]) {
    struct Fragment {
      u32 a[4];
    } mine;
    memcpy(mine.a, a, sizeof mine.a);
    together(~0u, mine, [&](auto get) {
      for (unsigned k = 0; k < K; ++k) {
        const Fragment f = get(lane() / 4 * 4 + k % (K / 2) / EACH);
        for (int h = 0; h < 2; ++h) {
          T v;
          memcpy(&v, (const u8*)&f.a[h + 2 * (k / (K / 2))] + k % EACH * sizeof(T), sizeof v);
          rows[h][k] = float(v);
        }
      }
      return 0;
    });
  }
  float operator()(unsigned row, unsigned k) const { return rows[row != top][k]; }
};

}  // namespace shim

template <int R>
void wgmma_bf16(float (&d)[R], const u32 (&a)[4], u64 b, int add) {
  shim::multiply<16>(d, add, shim::Rows<__nv_bfloat16, 16>(a),
                     [&](unsigned k, unsigned c) { return shim::along<__nv_bfloat16>(b, c, k); });
}

template <int R>
void wgmma_e4m3(float (&d)[R], const u32 (&a)[4], u64 b, int add) {
  shim::multiply<32>(d, add, shim::Rows<__nv_fp8_e4m3, 32>(a),
                     [&](unsigned k, unsigned c) { return shim::along<__nv_fp8_e4m3>(b, c, k); });
}

template <int R>
void wgmma_across_bf16(float (&d)[R], const u32 (&a)[4], u64 b, int add) {
  shim::multiply<16>(d, add, shim::Rows<__nv_bfloat16, 16>(a),
                     [&](unsigned k, unsigned c) { return shim::across(b, k, c); });
}
