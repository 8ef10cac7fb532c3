// The words that kernels are written in: thin names for the CUDA language under nvcc, and for the host
// emulator (emulation/device.h) otherwise. Kernels use nothing else of either.
#pragma once

#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <bit>
#include <type_traits>

// FSC_KERNEL(threads of a block) or FSC_KERNEL(threads, blocks that must fit on a multiprocessor).
#define FSC_KERNEL(...) __global__ void __launch_bounds__(__VA_ARGS__)
#define FSC_DEVICE __device__ __forceinline__
#define FSC_UNROLL _Pragma("unroll")
#define FSC_ROLLED _Pragma("unroll 1")

namespace fsc::device {

constexpr int kWarp = 32;

FSC_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
FSC_DEVICE int num_threads() { return static_cast<int>(blockDim.x); }
FSC_DEVICE int64_t block() { return blockIdx.x; }
FSC_DEVICE int64_t block_y() { return blockIdx.y; }
FSC_DEVICE int64_t num_blocks() { return gridDim.x; }

// The shared memory of the block, as large as the launch said; its content is undefined at first.
template <typename T>
FSC_DEVICE T* shared() {
  extern __shared__ __align__(16) unsigned char fsc_shared_memory[];
  return reinterpret_cast<T*>(fsc_shared_memory);
}

FSC_DEVICE void barrier() { __syncthreads(); }

// Waits for the blocks that share a counter, which the host sets to zero before the launch, until there have been
// `arrivals` of them since then, modulo 2^32; they must have been launched together. What they wrote before is in
// memory then, and must be read by load_of_blocks.
FSC_DEVICE void barrier_of_blocks(unsigned* counter, unsigned arrivals) {
  __syncthreads();
  if (thread() == 0) {
    __threadfence();  // what the block wrote comes before its arrival
    atomicAdd(counter, 1u);
    unsigned found;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(counter) : "memory");
    } while (static_cast<int>(found - arrivals) < 0);
    __threadfence();
  }
  __syncthreads();
}

// Reads what other blocks write during the launch, from the cache that they share. Volatile, as the compiler may
// neither reuse an earlier value nor move the load.
FSC_DEVICE uint16_t load_of_blocks(const uint16_t* address) {
  uint16_t value;
  asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(value) : "l"(address) : "memory");
  return value;
}
FSC_DEVICE uint32_t load_of_blocks(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
FSC_DEVICE uint64_t load_of_blocks(const uint64_t* address) {
  uint64_t value;
  asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}
template <typename T>
FSC_DEVICE T load_of_blocks(const T* address) {
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  return std::bit_cast<T>(load_of_blocks(reinterpret_cast<const Bits*>(address)));
}

template <typename T>
FSC_DEVICE T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}

// Begins to copy 4, 8 or 16 bytes, both addresses multiples of that, or to write zeros where `valid` is false. The
// bytes are undefined until this thread has waited for them; other threads need a barrier behind that wait.
template <int bytes>
FSC_DEVICE void copy_async(void* to_shared, const void* from_global, bool valid) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  const int read = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from_global), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from_global), "n"(bytes), "r"(read)
                 : "memory");
  }
}

// Makes a group of the copies that this thread has begun since the group before; it may be empty.
FSC_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups of this thread but the newest `left`.
template <int left>
FSC_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

FSC_DEVICE void atomic_add(int* address, int value) { atomicAdd(address, value); }

// a b + c, rounded once; the emulator rounds twice.
FSC_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }
FSC_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }

// c += a b, [16, 8] x [8, 8] in TF32 with float32 sums, the fragments of a warp as PTX lays them out. Of each value the
// upper 19 bits are read.
FSC_DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FSC_DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
FSC_DEVICE uint32_t float_to_bits(float value) { return __float_as_uint(value); }

}  // namespace fsc::device

#else

#include "emulation/device.h"

#endif
