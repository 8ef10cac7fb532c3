#include "emulation/fibers.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "emulation/stacks.h"

#ifndef __x86_64__
#error "the emulator switches stacks on x86-64 only"
#endif

// Saves the registers that a call must keep, then goes on with another stack where it stopped.
extern "C" void fsc_switch_stack(void** save, void* load);
asm(R"(
.text
.globl fsc_switch_stack
.type fsc_switch_stack, @function
fsc_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fsc_switch_stack, .-fsc_switch_stack
)");

namespace fsc::emulation {
namespace {

constexpr int kWarp = 32;
constexpr unsigned char kPoison = 0xff;  // NaN as float, -1 as integer

struct Barrier {
  int expected = 0;
  int arrived = 0;
  int64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  int64_t products = 0;  // while they are counted
  uint64_t slots[kWarp];
  Fragments fragments;
};

// What one thread has begun to copy and not yet waited for, in its order.
struct Copies {
  struct Copy {
    void* to;
    const void* from;  // null: zeros
    size_t bytes;
    int group;
  };
  std::vector<Copy> begun;
  int groups = 0;  // that were committed

  void perform(int until_group) {
    auto copy = begun.begin();
    for (; copy != begun.end() && copy->group < until_group; ++copy) {
      if (copy->from) {
        std::memcpy(copy->to, copy->from, copy->bytes);
      } else {
        std::memset(copy->to, 0, copy->bytes);
      }
    }
    begun.erase(begun.begin(), copy);
  }
};

struct Block {
  Place place;
  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<unsigned char> shared;
  std::vector<Fiber> fibers;
  std::vector<Copies> copies;
  std::vector<int> turns;  // the threads that have not returned
};

// One kernel runs at a time; blocks and stacks are kept for the next.
std::vector<Block> blocks;
Block* running = nullptr;
Place place;                  // of the running thread
const char* fault = nullptr;  // what a thread did; exceptions cannot leave its stack
void* scheduler = nullptr;
const std::function<void()>* body = nullptr;
int64_t blocks_together = 0;
bool progress = false;
bool in_turns = false;  // whether threads are fibers
std::minstd_rand order_of_turns(1);
Counts counts{};

void fail(const char* sentence) { fault = sentence; }

void yield() { fsc_switch_stack(&running->fibers[place.thread].position, scheduler); }

void wait(Barrier& barrier) {
  const int64_t generation = barrier.generation;
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    progress = true;
    return;
  }
  while (barrier.generation == generation) yield();
}

void run_thread() {
  (*body)();
  if (!running->copies[place.thread].begun.empty()) {
    fault = "emulator: a thread returned with copies that nobody waited for";
  }
}

void enter() {
  run_thread();
  running->fibers[place.thread].done = true;
  progress = true;
  yield();  // for good
}

void prepare(Fiber& fiber) {
  fiber.forget_frames();
  // As if the fiber had been called and had then saved six registers; 8 bytes off 16 as after any call.
  auto top = reinterpret_cast<uintptr_t>(fiber.stack.get() + Fiber::kStackBytes) & ~uintptr_t{15};
  auto* words = reinterpret_cast<void**>(top);
  words[-1] = nullptr;
  words[-2] = reinterpret_cast<void*>(&enter);
  std::fill_n(words - 8, 6, nullptr);
  fiber.position = words - 8;
  fiber.done = false;
}

void prepare(Block& block, const Launch& launch, int64_t x, int64_t y) {
  block.shared.assign(launch.shared_bytes + 16, kPoison);
  const uintptr_t start = (reinterpret_cast<uintptr_t>(block.shared.data()) + 15) & ~uintptr_t{15};
  block.place = {0, launch.threads, x, y, launch.blocks_x, reinterpret_cast<unsigned char*>(start)};
  block.copies.assign(launch.threads, {});
  block.turns.clear();
  if (!launch.barriers) return;
  block.barrier = {launch.threads};
  block.warps.resize((launch.threads + kWarp - 1) / kWarp);
  for (size_t w = 0; w < block.warps.size(); ++w) {
    block.warps[w].barrier = {std::min<int>(kWarp, launch.threads - static_cast<int>(w) * kWarp)};
  }
  while (block.fibers.size() < static_cast<size_t>(launch.threads)) block.fibers.emplace_back();
  block.turns.resize(launch.threads);
  std::iota(block.turns.begin(), block.turns.end(), 0);
  for (int t : block.turns) prepare(block.fibers[t]);
}

// Every thread that has not returned runs until it waits.
void take_turns(Block& block) {
  running = &block;
  place = block.place;
  std::shuffle(block.turns.begin(), block.turns.end(), order_of_turns);
  for (int t : block.turns) {
    place.thread = t;
    fsc_switch_stack(&scheduler, block.fibers[t].position);
  }
  std::erase_if(block.turns, [&](int t) { return block.fibers[t].done; });
}

// A block takes some turns before the next one does, so that blocks that ought to wait for others run ahead of them.
void finish(std::vector<Block*> alive) {
  while (!alive.empty()) {
    bool any_progress = false;
    std::shuffle(alive.begin(), alive.end(), order_of_turns);
    for (Block* block : alive) {
      progress = true;
      for (auto left = 1 + order_of_turns() % 8; left > 0 && progress && !block->turns.empty(); --left) {
        progress = false;
        take_turns(*block);
        any_progress |= progress;
      }
    }
    std::erase_if(alive, [](const Block* block) { return block->turns.empty(); });
    if (!any_progress) throw std::runtime_error("emulator: threads wait at a barrier that others never reach");
  }
}

}  // namespace

const Place& current() { return place; }

void block_barrier() {
  in_turns ? wait(running->barrier) : fail("emulator: a thread waits in a launch that said none would");
}

void warp_barrier() {
  in_turns ? wait(running->warps[place.thread / kWarp].barrier)
           : fail("emulator: a warp waits in a launch that said no thread would");
}

void arrive_and_wait(unsigned* counter, unsigned arrivals) {
  ++counts.waits;
  if (counting) return;
  ++*counter;
  progress = true;
  while (static_cast<int>(*counter - arrivals) < 0) yield();
}

void begin_copy(void* to, const void* from, size_t bytes, bool valid) {
  const auto off = [bytes](const void* address) { return reinterpret_cast<uintptr_t>(address) % bytes != 0; };
  if (off(to) || off(from)) fault = "emulator: the addresses of a copy are not multiples of its bytes";
  std::memset(to, kPoison, bytes);
  if (valid) counts.copied_bytes += static_cast<int64_t>(bytes);
  Copies& mine = running->copies[place.thread];
  mine.begun.push_back({to, valid ? from : nullptr, bytes, mine.groups});
}

void commit_copies() { ++running->copies[place.thread].groups; }

void wait_for_copies(int left) {
  if (in_turns) {
    // Others see for a while that these bytes are undefined.
    progress = true;
    yield();
  }
  Copies& mine = running->copies[place.thread];
  mine.perform(mine.groups - left);
}

uint64_t exchange(uint64_t bits, int lane) {
  Warp& warp = running->warps[place.thread / kWarp];
  warp.slots[place.thread % kWarp] = bits;
  warp_barrier();
  const uint64_t found = warp.slots[lane];
  warp_barrier();
  return found;
}

void count_product() { running->warps[place.thread / kWarp].products += place.thread % kWarp == 0; }

Counts count(const Launch& launch, const std::function<void()>& thread) {
  body = &thread;
  in_turns = counting = true;
  counts = {};
  if (blocks.empty()) blocks.resize(1);
  const int64_t middle = launch.blocks_x * launch.blocks_y / 2;
  prepare(blocks[0], launch, middle % launch.blocks_x, middle / launch.blocks_x);
  for (Warp& warp : blocks[0].warps) warp.products = 0;
  finish({&blocks[0]});
  for (const Warp& warp : blocks[0].warps) counts.products = std::max(counts.products, warp.products);
  return counts;
}

Fragments& warp_fragments() { return running->warps[place.thread / kWarp].fragments; }

void run(const Launch& launch, const std::function<void()>& thread) {
  if (observer) return observer(launch, thread);
  body = &thread;
  fault = nullptr;
  in_turns = launch.barriers;
  counting = false;
  const int64_t count = launch.blocks_x * launch.blocks_y;
  if (const size_t alive = launch.together ? count : 1; blocks.size() < alive) blocks.resize(alive);
  std::vector<Block*> together;
  for (int64_t i = 0; i < count; ++i) {
    Block& block = blocks[launch.together ? i : 0];
    prepare(block, launch, i % launch.blocks_x, i / launch.blocks_x);
    if (launch.together) {
      together.push_back(&block);
    } else if (launch.barriers) {
      finish({&block});
    } else {
      running = &block;
      place = block.place;
      for (place.thread = 0; place.thread < launch.threads; ++place.thread) run_thread();
    }
  }
  if (!together.empty()) blocks_together = count;
  finish(together);
  if (fault) throw std::runtime_error(fault);
}

}  // namespace fsc::emulation

// For the tests: how many blocks waited for each other in the last launch where any did, zero after every call.
extern "C" int64_t fsc_blocks_together() { return std::exchange(fsc::emulation::blocks_together, 0); }
