// The fibers and clusters of shim.h.
#include "shim.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace shim {

__thread Block* now;
Cluster cluster;
dim3 block_size, grid_size;

namespace {

std::function<void()> the_kernel;
std::mutex mutex;
std::condition_variable changed;
unsigned turn;  // the block of the cluster that runs

constexpr size_t STACK = 128 * 1024;
constexpr unsigned char POISON = 0xff;  // NaN in every format

// Saves what the calling convention has a function keep, and goes on at another stack.
extern "C" void shim_switch(void** save, void* to);
asm(R"(
.text
.globl shim_switch
.type shim_switch,@function
shim_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
.size shim_switch,.-shim_switch
)");

// The threads take turns in reverse order with SHIM_REVERSE set: what lacks a barrier then changes.
const bool reverse = getenv("SHIM_REVERSE") != nullptr;

unsigned following(unsigned i, unsigned n) { return (reverse ? i + n - 1 : i + 1) % n; }

void go_on() {
  std::vector<Fiber>& fibers = block().fibers;
  const unsigned from = block().current, n = fibers.size();
  unsigned to = following(from, n);
  while (fibers[to].done && to != from) to = following(to, n);
  if (to == from) return;
  block().current = to;
  shim_switch(&fibers[from].stack_pointer, fibers[to].stack_pointer);
}

void await_turn() {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [] { return turn == block().rank; });
}

// Lets the next block run that has not ended, which may be this one.
void hand_over() {
  const unsigned n = cluster.blocks.size();
  unsigned to = following(block().rank, n);
  while (cluster.blocks[to].alive == 0 && to != block().rank) to = following(to, n);
  const std::lock_guard<std::mutex> lock(mutex);
  turn = to;
  changed.notify_all();
}

void release_block() {
  Block& b = block();
  if (b.alive > 0 && b.all.arrived == b.alive) {
    b.all.arrived = 0;
    ++b.all.generation;
    progress();
  }
}

void wait_for_next(const Meeting& meeting, unsigned generation) {
  while (*(volatile const unsigned*)&meeting.generation == generation) yield();
  progress();
}

void fiber_main() {
  the_kernel();
  block().fibers[block().current].done = true;
  --block().alive;
  progress();
  release_block();
  void* unused;
  if (block().alive == 0) shim_switch(&unused, block().host);
  go_on();
  abort();
}

// Stacks of fibers, which a thread of the CPU keeps for its next block.
struct Stacks {
  char* first = nullptr;
  unsigned count = 0;
  ~Stacks() { release(); }
  void release() {
    if (count > 0) munmap(first, count * STACK);
  }
  char* of(unsigned fiber) const { return first + fiber * STACK; }
  void provide(unsigned wanted) {
    if (wanted <= count) return;
    release();
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    first = (char*)mmap(nullptr, wanted * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    count = wanted;
  }
};
thread_local Stacks stacks;

void* new_stack(char* stack) {
  uint64_t* top = (uint64_t*)(stack + STACK);
  *--top = 0;
  *--top = (uint64_t)(void*)fiber_main;
  for (int i = 0; i < 6; ++i) *--top = 0;
  return top;
}

void start(Block& b, size_t bytes, uint3 index, unsigned rank) {
  const unsigned threads = block_size.x * block_size.y * block_size.z;
  b.fibers.resize(threads);
  b.warps.assign((threads + 31) / 32, Warp{});
  b.memory.assign(bytes, POISON);
  b.all = Meeting{};
  for (Meeting& m : b.named) m = Meeting{};
  b.alive = threads;
  b.idle = b.current = 0;
  b.index = index, b.rank = rank;
}

void run_block(Block& b) {
  const unsigned threads = b.fibers.size();
  stacks.provide(threads);
  for (unsigned i = 0; i < threads; ++i) {
    const dim3& s = block_size;
    b.fibers[i] = {
        new_stack(stacks.of(i)), {i % s.x, i / s.x % s.y, i / (s.x * s.y)}, false};
  }
  shim_switch(&b.host, b.fibers[0].stack_pointer);
}

// Makes this thread of the CPU the block's.
void become(Block& b) {
  now = &b;
  b.storage = (char*)__builtin_thread_pointer();
}

// Each block on a thread of its own, of which one runs at a time.
void run_cluster() {
  std::vector<std::thread> threads;
  turn = reverse ? cluster.blocks.size() - 1 : 0;
  for (Block& b : cluster.blocks) {
    threads.emplace_back([&b] {
      become(b);
      await_turn();
      run_block(b);
      hand_over();
    });
  }
  for (std::thread& it : threads) it.join();
}

}  // namespace

void progress() { block().idle = cluster.idle = 0; }

void yield() {
  Block& b = block();
  if (++b.idle > 4 * b.fibers.size() + 64) {
    b.idle = 0;
    if (++cluster.idle > 2 * cluster.blocks.size()) {
      fprintf(stderr, "deadlock in block %u %u %u: thread %u waits, %u of %u at __syncthreads\n",
              b.index.x, b.index.y, b.index.z, b.current, b.all.arrived, b.alive);
      abort();
    }
    hand_over();
    await_turn();
  }
  go_on();
}

void meet(Meeting& meeting, unsigned threads) {
  const unsigned generation = meeting.generation;
  if (++meeting.arrived == threads) {
    meeting.arrived = 0;
    ++meeting.generation;
    progress();
  }
  wait_for_next(meeting, generation);
}

void meet_block() {
  const unsigned generation = block().all.generation;
  ++block().all.arrived;
  release_block();
  wait_for_next(block().all, generation);
}

void meet_warp(unsigned mask) {
  const Block& b = block();
  const unsigned lanes = std::min<size_t>(32, b.fibers.size() - b.current / 32 * 32);
  const unsigned there = lanes == 32 ? ~0u : (1u << lanes) - 1;
  meet(warp().meeting, __builtin_popcount(mask & there));
}

void launch(dim3 grid, dim3 size, size_t shared_bytes, std::function<void()> kernel,
            unsigned blocks) {
  grid_size = grid, block_size = size;
  the_kernel = kernel;
  cluster.blocks.resize(blocks);
  for (unsigned first = 0; first < grid.x * grid.y * grid.z; first += blocks) {
    cluster.all = Meeting{};
    cluster.idle = 0;
    for (unsigned rank = 0; rank < blocks; ++rank) {
      const unsigned i = first + rank;
      const uint3 index = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
      start(cluster.blocks[rank], shared_bytes + 1024, index, rank);
    }
    if (blocks == 1) {
      become(cluster.blocks[0]);
      run_block(cluster.blocks[0]);
    } else {
      run_cluster();
    }
  }
}

}  // namespace shim
