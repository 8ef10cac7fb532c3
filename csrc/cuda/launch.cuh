// From host wrappers to kernels: the current stream of the tensors' device, checked launches. Under the
// emulator (FSC_EMULATE) the same wrappers run on CPU tensors and take the place of the CPU's kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>

#ifdef FSC_EMULATE
#include "emulation/fibers.h"
#define FSC_CUDA_OPERATORS(m) TORCH_LIBRARY_IMPL(fsc_ext, CPU, m)
#else
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#define FSC_CUDA_OPERATORS(m) TORCH_LIBRARY_IMPL(fsc_ext, CUDA, m)
#endif

namespace fsc {

// Makes the device of a tensor current for as long as it lives.
#ifdef FSC_EMULATE
struct OnDeviceOf {
  explicit OnDeviceOf(const at::Tensor&) {}
};
#else
struct OnDeviceOf {
  explicit OnDeviceOf(const at::Tensor& tensor) : guard(tensor.device()) {}
  c10::cuda::CUDAGuard guard;
};
#endif

constexpr int64_t kMostBlocks = 1 << 16;

// How a kernel is launched.
struct Grid {
  int64_t blocks;
  int threads;
  int64_t shared_bytes = 0;
  int64_t blocks_y = 1;
};

inline int64_t ceil_div(int64_t total, int64_t part) { return (total + part - 1) / part; }

// Blocks for kernels that stride over `total` elements; no more than keep every GPU busy.
inline Grid grid_over(int64_t total, int threads) {
  return {std::clamp<int64_t>(ceil_div(total, threads), 1, kMostBlocks), threads};
}

template <typename scalar_t>
const scalar_t* pointer(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr<scalar_t>() : nullptr;
}

#ifdef FSC_EMULATE
inline int64_t multiprocessors() { return emulation::device.multiprocessors; }
inline int64_t most_shared_bytes() { return emulation::device.most_shared_bytes; }

template <typename... Parameters, typename... Arguments>
void emulate(const Grid& grid, bool barriers, bool together, void (*kernel)(Parameters...),
             const Arguments&... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::apply(
      [&](const Parameters&... each) {
        emulation::run({grid.blocks,
                        grid.blocks_y,
                        grid.threads,
                        static_cast<size_t>(grid.shared_bytes),
                        barriers,
                        together,
                        reinterpret_cast<const void*>(kernel),
                        {{&each, sizeof(each)}...}},
                       [&] { kernel(each...); });
      },
      values);
}
#else
inline int64_t device_attribute(cudaDeviceAttr attribute) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, c10::cuda::current_device()));
  return value;
}

inline int64_t multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }
// The most shared memory that a block of the current device may have.
inline int64_t most_shared_bytes() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

// The limit is one of the kernel, not of the launch: always the same value, so that other threads' launches may have
// what they need.
inline void allow_shared(const void* kernel, int64_t bytes) {
  constexpr int64_t kWithoutAsking = 48 << 10;
  if (bytes <= kWithoutAsking) return;
  const auto most = static_cast<int>(most_shared_bytes());
  C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
}
#endif

// `barriers`: whether threads of the kernel wait for each other; the emulator is faster where they do not.
template <bool barriers, typename... Parameters, typename... Arguments>
void launch(const Grid& grid, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (grid.blocks == 0 || grid.blocks_y == 0) return;
  TORCH_INTERNAL_ASSERT(grid.blocks < (int64_t{1} << 31) && grid.blocks_y < (1 << 16), "too many blocks for a launch");
  TORCH_INTERNAL_ASSERT(grid.shared_bytes <= most_shared_bytes(), "too much shared memory for a block");
#ifdef FSC_EMULATE
  emulate(grid, barriers, false, kernel, arguments...);
#else
  allow_shared(reinterpret_cast<const void*>(kernel), grid.shared_bytes);
  const dim3 blocks(static_cast<unsigned>(grid.blocks), static_cast<unsigned>(grid.blocks_y));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  // clang-format off
  kernel<<<blocks, grid.threads, grid.shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  // clang-format on
  C10_CUDA_KERNEL_LAUNCH_CHECK();
#endif
}

// ---- blocks that wait for each other ----

// Whether all blocks of a grid can run at the same time on the current device.
template <typename... Parameters>
bool fits_together(const Grid& grid, void (*kernel)(Parameters...)) {
  if (grid.shared_bytes > most_shared_bytes()) return false;
  const int64_t blocks = grid.blocks * grid.blocks_y;
#ifdef FSC_EMULATE
  return blocks <= multiprocessors();
#else
  if (device_attribute(cudaDevAttrCooperativeLaunch) == 0) return false;
  allow_shared(reinterpret_cast<const void*>(kernel), grid.shared_bytes);
  int of_one = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_one, kernel, grid.threads, grid.shared_bytes));
  return blocks <= of_one * multiprocessors();
#endif
}

// A launch whose blocks run at the same time, so that they may wait for each other; fits_together must hold.
template <typename... Parameters, typename... Arguments>
void launch_together(const Grid& grid, void (*kernel)(Parameters...), const Arguments&... arguments) {
#ifdef FSC_EMULATE
  emulate(grid, true, true, kernel, arguments...);
#else
  allow_shared(reinterpret_cast<const void*>(kernel), grid.shared_bytes);
  const dim3 blocks(static_cast<unsigned>(grid.blocks), static_cast<unsigned>(grid.blocks_y));
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::apply(
      [&](Parameters&... each) {
        void* addresses[] = {&each...};
        C10_CUDA_CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), blocks, dim3(grid.threads),
                                                   addresses, grid.shared_bytes, c10::cuda::getCurrentCUDAStream()));
      },
      values);
#endif
}

}  // namespace fsc
