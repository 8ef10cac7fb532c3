// The exact line search behind a ReLU on CUDA devices: each row of a layer's output is a problem of its own.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>

#include "cuda/dispatch.cuh"
#include "cuda/launch.cuh"
#include "cuda/line_search_kernels.cuh"
#include "line_search.h"
#include "version_counter.h"

namespace {

template <typename scalar_t>
void launch_line_search(const fsc::LineSearch<scalar_t>& rows) {
  constexpr int width = fsc::kVectorWidth<scalar_t>;
  constexpr int64_t scratch = fsc::device::kSearchThreads / fsc::device::kWarp * sizeof(double);
  const fsc::Grid grid{std::min(rows.rows, fsc::kMostBlocks), fsc::device::kSearchThreads, scratch};
  if (rows.count % width == 0 && fsc::aligned(rows.output, rows.direction, rows.target, rows.residual)) {
    fsc::launch<true>(grid, fsc::device::line_search_relu_kernel<scalar_t, width>, rows);
  } else {
    fsc::launch<true>(grid, fsc::device::line_search_relu_kernel<scalar_t, 1>, rows);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> line_search_relu_cuda_(at::Tensor& output, const at::Tensor& direction,
                                                                      const at::Tensor& target) {
  fsc::check_line_search("line_search_relu_", output, direction, target);
  const fsc::OnDeviceOf device(output);
  const int64_t rows = output.size(0), count = output.size(1);
  const at::Tensor along = direction.contiguous(), goal = target.contiguous();
  at::Tensor residual = at::empty_like(output);
  at::Tensor steps = at::empty({rows}, output.options());
  at::Tensor losses = at::empty({rows}, output.options().dtype(at::kDouble));
  FSC_DISPATCH(output.scalar_type(), "line_search_relu_", [&] {
    launch_line_search<scalar_t>({output.data_ptr<scalar_t>(), along.const_data_ptr<scalar_t>(),
                                  goal.const_data_ptr<scalar_t>(), residual.data_ptr<scalar_t>(),
                                  steps.data_ptr<scalar_t>(), losses.data_ptr<double>(), rows, count,
                                  static_cast<double>(std::numeric_limits<scalar_t>::epsilon())});
  });
  fsc::mark_changed(output);
  return {steps, losses, residual};
}

}  // namespace

FSC_CUDA_OPERATORS(m) { m.impl("line_search_relu_", line_search_relu_cuda_); }
