// Optimal brain surgery on single weights on CUDA devices: each row is a problem of its own.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "cuda/elimination_kernels.cuh"
#include "cuda/launch.cuh"
#include "elimination.h"

namespace {

// The copies of the inverse that are worked on at the same time take no more than this, or one copy.
constexpr int64_t kMostScratchBytes = int64_t{1} << 30;

int64_t blocks_for(int64_t rows, int64_t size) {
  const int64_t matrix = size * size * static_cast<int64_t>(sizeof(double));
  return std::min({rows, std::max<int64_t>(1, kMostScratchBytes / matrix), fsc::kMostBlocks});
}

std::tuple<at::Tensor, at::Tensor> elimination_order_cuda(const at::Tensor& weight, const at::Tensor& inverse,
                                                          int64_t removable) {
  fsc::check_elimination("elimination_order", weight, inverse, removable);
  const fsc::OnDeviceOf device(weight);
  const int64_t rows = weight.size(0), dim = weight.size(1);
  const at::Tensor start = weight.contiguous(), copied = inverse.contiguous();
  const auto options = weight.options().memory_format(std::nullopt);
  at::Tensor order = at::empty({rows, removable}, options.dtype(at::kLong));
  at::Tensor rises = at::empty({rows, removable}, options);
  if (order.numel() == 0) return {order, rises};
  const int64_t blocks = blocks_for(rows, removable);
  const at::Tensor matrices = at::empty({blocks, removable, removable}, options);
  const at::Tensor vectors = at::empty({blocks, 2, removable}, options);
  const at::Tensor indices = at::empty({blocks, removable}, options.dtype(at::kLong));
  constexpr int threads = fsc::device::kEliminationThreads;
  constexpr int64_t scratch = threads / fsc::device::kWarp * sizeof(fsc::device::Candidate);
  const fsc::Elimination problem{start.const_data_ptr<double>(),
                                 copied.const_data_ptr<double>(),
                                 copied.size(0) == 1,
                                 rows,
                                 dim,
                                 removable,
                                 matrices.data_ptr<double>(),
                                 vectors.data_ptr<double>(),
                                 indices.data_ptr<int64_t>(),
                                 order.data_ptr<int64_t>(),
                                 rises.data_ptr<double>()};
  fsc::launch<true>({blocks, threads, scratch}, fsc::device::elimination_order_kernel, problem);
  return {order, rises};
}

}  // namespace

FSC_CUDA_OPERATORS(m) { m.impl("elimination_order", elimination_order_cuda); }
