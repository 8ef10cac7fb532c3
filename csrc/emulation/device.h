// The words of cuda/device.cuh on the host: a block is a set of fibers that take turns, so that barriers and
// shuffles behave as on a GPU, and asynchronous copies happen as late as they may. Finds wrong indices, fragment
// layouts, missing barriers, waits and reductions; cannot find races between memory orders, misaligned accesses other
// than those of asynchronous copies, or bank conflicts.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "emulation/fibers.h"

#define FSC_KERNEL(...) void
#define FSC_DEVICE inline
#define FSC_UNROLL
#define FSC_ROLLED

namespace fsc::device {

constexpr int kWarp = 32;

inline int thread() { return emulation::current().thread; }
inline int num_threads() { return emulation::current().num_threads; }
inline int64_t block() { return emulation::current().block_x; }
inline int64_t block_y() { return emulation::current().block_y; }
inline int64_t num_blocks() { return emulation::current().num_blocks; }

template <typename T>
T* shared() {
  return reinterpret_cast<T*>(emulation::current().shared);
}

inline void barrier() { emulation::block_barrier(); }

inline void barrier_of_blocks(unsigned* counter, unsigned arrivals) {
  barrier();
  if (thread() == 0) emulation::arrive_and_wait(counter, arrivals);
  barrier();
}

template <typename T>
T load_of_blocks(const T* address) {
  return *address;
}

template <typename T>
T shuffle_xor(T value, int lanes) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::exchange(bits, (thread() % kWarp) ^ lanes);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <int bytes>
void copy_async(void* to_shared, const void* from_global, bool valid) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  emulation::begin_copy(to_shared, from_global, bytes, valid);
}

inline void commit_copies() { emulation::commit_copies(); }

template <int left>
void wait_for_copies() {
  emulation::wait_for_copies(left);
}

// Fibers do not interrupt each other.
inline void atomic_add(int* address, int value) { *address += value; }

inline double multiply_add(double a, double b, double c) { return a * b + c; }
inline float multiply_add(float a, float b, float c) { return a * b + c; }

inline float bits_to_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t float_to_bits(float value) { return std::bit_cast<uint32_t>(value); }

// Each lane shows its fragments to the warp and then computes its own four sums.
// Layout (PTX, mma.m16n8k8, tf32), with g = lane / 4 and t = lane % 4:
//   a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)   b: (t, g), (t + 4, g)
//   c: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if (emulation::counting) return emulation::count_product();
  emulation::Fragments& all = emulation::warp_fragments();
  const int lane = thread() % kWarp;
  std::memcpy(all.a[lane], a, sizeof(a));
  std::memcpy(all.b[lane], b, sizeof(b));
  emulation::warp_barrier();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = 2 * (lane % 4) + i % 2;
    float sum = c[i];
    for (int k = 0; k < 8; ++k) {
      const uint32_t left = all.a[(row % 8) * 4 + k % 4][(row >= 8 ? 1 : 0) + (k >= 4 ? 2 : 0)];
      const uint32_t right = all.b[column * 4 + k % 4][k >= 4 ? 1 : 0];
      // Tensor cores ignore the low bits.
      sum += bits_to_float(left & 0xffffe000u) * bits_to_float(right & 0xffffe000u);
    }
    c[i] = sum;
  }
  emulation::warp_barrier();
}

}  // namespace fsc::device
