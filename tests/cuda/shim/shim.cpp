// The fibers of shim.h.
#include "shim.h"

namespace shim {

Block block;
uint3 block_index;
dim3 block_size, grid_size;

namespace {

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

unsigned following(unsigned fiber) {
  const unsigned n = block.fibers.size();
  return reverse ? (fiber + n - 1) % n : (fiber + 1) % n;
}

void go_on() {
  const unsigned from = block.current;
  unsigned to = following(from);
  while (block.fibers[to].done && to != from) to = following(to);
  if (to == from) return;
  block.current = to;
  shim_switch(&block.fibers[from].stack_pointer, block.fibers[to].stack_pointer);
}

void release_block() {
  if (block.alive > 0 && block.all.arrived == block.alive) {
    block.all.arrived = 0;
    ++block.all.generation;
    progress();
  }
}

void wait_for_next(const Meeting& meeting, unsigned generation) {
  while (*(volatile const unsigned*)&meeting.generation == generation) yield();
  progress();
}

void fiber_main() {
  block.kernel();
  block.fibers[block.current].done = true;
  --block.alive;
  progress();
  release_block();
  void* unused;
  if (block.alive == 0) shim_switch(&unused, block.host);
  go_on();
  abort();
}

void* new_stack(char* stack) {
  uint64_t* top = (uint64_t*)(stack + STACK);
  *--top = 0;
  *--top = (uint64_t)(void*)fiber_main;
  for (int i = 0; i < 6; ++i) *--top = 0;
  return top;
}

void run_block(char* stacks, unsigned threads) {
  block.fibers.resize(threads);
  block.warps.assign((threads + 31) / 32, Warp{});
  block.all = Meeting{};
  for (Meeting& m : block.named) m = Meeting{};
  block.alive = threads;
  block.idle = block.current = 0;
  std::fill(block.shared.begin(), block.shared.end(), POISON);
  for (unsigned i = 0; i < threads; ++i) {
    const dim3& s = block_size;
    block.fibers[i] = {
        new_stack(stacks + i * STACK), {i % s.x, i / s.x % s.y, i / (s.x * s.y)}, false};
  }
  shim_switch(&block.host, block.fibers[0].stack_pointer);
}

}  // namespace

unsigned char* shared() {
  return (unsigned char*)(((uintptr_t)block.shared.data() + 1023) & ~(uintptr_t)1023);
}

void progress() { block.idle = 0; }

void yield() {
  if (++block.idle > 4 * block.fibers.size() + 64) {
    fprintf(stderr, "deadlock in block %u %u %u: thread %u waits, %u of %u at __syncthreads\n",
            block_index.x, block_index.y, block_index.z, block.current, block.all.arrived,
            block.alive);
    abort();
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
  const unsigned generation = block.all.generation;
  ++block.all.arrived;
  release_block();
  wait_for_next(block.all, generation);
}

void meet_warp(unsigned mask) {
  const unsigned lanes = std::min<size_t>(32, block.fibers.size() - block.current / 32 * 32);
  const unsigned there = lanes == 32 ? ~0u : (1u << lanes) - 1;
  meet(warp().meeting, __builtin_popcount(mask & there));
}

void launch(dim3 grid, dim3 size, size_t shared_bytes, std::function<void()> kernel) {
  const unsigned threads = size.x * size.y * size.z;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char* stacks = (char*)mmap(nullptr, threads * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
  grid_size = grid;
  block_size = size;
  block.kernel = kernel;
  block.shared.resize(shared_bytes + 1024);
  for (unsigned i = 0; i < grid.x * grid.y * grid.z; ++i) {
    block_index = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
    run_block(stacks, threads);
  }
  munmap(stacks, threads * STACK);
}

}  // namespace shim
