// Blocks of threads on one core: one fiber a thread, in an order that changes with every turn; blocks one after the
// other, or all in turns where they wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace fsc::emulation {

// What a running thread knows about itself.
struct Place {
  int thread;
  int num_threads;
  int64_t block_x;
  int64_t block_y;
  int64_t num_blocks;
  unsigned char* shared;
};

// The operands of one tensor core instruction, by lane.
struct Fragments {
  uint32_t a[32][4];
  uint32_t b[32][2];
};

const Place& current();
void block_barrier();
void warp_barrier();
// Adds one to the counter; returns when it has reached `arrivals`, modulo 2^32.
void arrive_and_wait(unsigned* counter, unsigned arrivals);
// What the given lane of this warp passed in.
uint64_t exchange(uint64_t bits, int lane);
Fragments& warp_fragments();

// A copy reads and writes when a wait demands its group; until then its destination is poisoned.
void begin_copy(void* to, const void* from, size_t bytes, bool valid);
void commit_copies();
void wait_for_copies(int left);

// A parameter of a kernel, as it lies in memory.
struct Parameter {
  const void* start;
  size_t bytes;
};

struct Launch {
  int64_t blocks_x;
  int64_t blocks_y;
  int threads;
  size_t shared_bytes;
  bool barriers;                           // false: no thread waits for another, so plain calls will do
  bool together = false;                   // all blocks are alive at once, as blocks must be that wait for each other
  const void* kernel = nullptr;            // for recorder.cpp
  std::vector<Parameter> parameters = {};  // likewise
};

// The device that launches see (cuda/launch.cuh).
struct Device {
  int64_t multiprocessors = 24;
  int64_t most_shared_bytes = 160 << 10;
};
inline Device device;

// Where there is one, launches go to it, and do not run.
inline void (*observer)(const Launch&, const std::function<void()>& thread) = nullptr;

// What a block does, by the warp that does most of it.
struct Counts {
  int64_t products;      // instructions of tensor cores
  int64_t copied_bytes;  // of all threads, by asynchronous copies
  int64_t waits;         // for other blocks
};
// One block of the middle of a launch with barriers, for its counts alone: its products are not computed, and it waits
// for no other block.
Counts count(const Launch& launch, const std::function<void()>& thread);
// Whether that is what runs; a tensor core instruction is to be counted then.
inline bool counting = false;
void count_product();

// Runs every block, with shared memory that is poisoned before.
// Throws std::runtime_error when threads wait for others that have returned, when a thread returns with copies that
// nobody waited for, and when the addresses of a copy are not multiples of its bytes.
void run(const Launch& launch, const std::function<void()>& thread);

}  // namespace fsc::emulation
