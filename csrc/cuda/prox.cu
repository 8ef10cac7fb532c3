// Proximal operators and hard projections on CUDA devices.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/dispatch.cuh"
#include "cuda/launch.cuh"
#include "cuda/prox_launch.cuh"
#include "prox.h"
#include "version_counter.h"

namespace {

using fsc::Groups;

// ---- soft threshold ----

// Both tensors share one dense memory format, so their elements pair up in memory order.
void soft_threshold_dense(const at::Tensor& input, const at::Tensor& output, double threshold) {
  FSC_DISPATCH(input.scalar_type(), "prox_l1", [&] {
    fsc::launch_soft_threshold(input.const_data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), input.numel(),
                               {threshold, nullptr});
  });
}

at::Tensor prox_l1_cuda(const at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1", "input", input);
  fsc::check_threshold("prox_l1", threshold);
  const fsc::OnDeviceOf device(input);
  at::Tensor output = at::empty_like(input);
  const bool dense = input.is_non_overlapping_and_dense();
  if (!dense) output.copy_(input);
  soft_threshold_dense(dense ? input : output, output, threshold);
  return output;
}

void prox_l1_inplace_cuda(at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1_", "input", input);
  fsc::check_threshold("prox_l1_", threshold);
  const fsc::OnDeviceOf device(input);
  if (input.is_non_overlapping_and_dense()) {
    soft_threshold_dense(input, input, threshold);
  } else {
    input.copy_(prox_l1_cuda(input, threshold));
  }
  fsc::mark_changed(input);
}

// ---- groups ----

at::Tensor group_norms(const at::Tensor& weight, const Groups& groups) {
  at::Tensor norms = at::empty({groups.count}, weight.options().dtype(at::kDouble).memory_format(std::nullopt));
  FSC_DISPATCH(weight.scalar_type(), "group_norms",
               [&] { fsc::launch_group_norms(weight.const_data_ptr<scalar_t>(), norms.data_ptr<double>(), groups); });
  return norms;
}

void shrink_groups(const at::Tensor& weight, const at::Tensor& output, double threshold, int64_t dim) {
  const Groups groups = fsc::groups_of(weight, dim);
  const at::Tensor norms = group_norms(weight, groups);
  FSC_DISPATCH(weight.scalar_type(), "prox_group_l2", [&] {
    fsc::launch_shrink_groups(weight.const_data_ptr<scalar_t>(), output.data_ptr<scalar_t>(),
                              norms.const_data_ptr<double>(), groups, {threshold, nullptr});
  });
}

at::Tensor prox_group_l2_cuda(const at::Tensor& weight, double threshold, int64_t dim) {
  dim = fsc::check_group_arguments("prox_group_l2", weight, threshold, dim);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  at::Tensor output = at::empty_like(contiguous);
  shrink_groups(contiguous, output, threshold, dim);
  return output;
}

void prox_group_l2_inplace_cuda(at::Tensor& weight, double threshold, int64_t dim) {
  dim = fsc::check_group_arguments("prox_group_l2_", weight, threshold, dim);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  shrink_groups(contiguous, contiguous, threshold, dim);
  if (!contiguous.is_same(weight)) weight.copy_(contiguous);
  fsc::mark_changed(weight);
}

// ---- hard projections ----

// Keeps the `count` largest of `measure`, which has one value for each group of the weight.
at::Tensor keep_largest(const char* op, at::Tensor& weight, const at::Tensor& contiguous, const at::Tensor& measure,
                        const Groups& groups, int64_t count) {
  TORCH_CHECK(count >= 0 && count <= groups.count, op, ": count must be in [0, ", groups.count, "], got ", count);
  at::Tensor mask = at::empty({groups.count}, weight.options().dtype(at::kBool).memory_format(std::nullopt));
  auto* keep = reinterpret_cast<uint8_t*>(mask.data_ptr<bool>());
  const fsc::device::Amount stay{static_cast<double>(count), nullptr};
  FSC_DISPATCH(measure.scalar_type(), "keep_topk",
               [&] { fsc::launch_mark_largest(measure.const_data_ptr<scalar_t>(), groups.count, stay, keep); });
  FSC_DISPATCH(weight.scalar_type(), "keep_topk",
               [&] { fsc::launch_clear(contiguous.data_ptr<scalar_t>(), keep, groups); });
  if (!contiguous.is_same(weight)) weight.copy_(contiguous);
  fsc::mark_changed(weight);
  return mask;
}

at::Tensor keep_topk_cuda(at::Tensor& weight, int64_t count) {
  fsc::check_floating("keep_topk_", "weight", weight);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  return keep_largest("keep_topk_", weight, contiguous, contiguous, {1, weight.numel(), 1}, count).view(weight.sizes());
}

at::Tensor keep_topk_groups_cuda(at::Tensor& weight, int64_t count, int64_t dim) {
  fsc::check_floating("keep_topk_groups_", "weight", weight);
  dim = fsc::check_group_dim("keep_topk_groups_", weight, dim);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  const Groups groups = fsc::groups_of(weight, dim);
  return keep_largest("keep_topk_groups_", weight, contiguous, group_norms(contiguous, groups), groups, count);
}

}  // namespace

FSC_CUDA_OPERATORS(m) {
  m.impl("prox_l1", prox_l1_cuda);
  m.impl("prox_l1_", prox_l1_inplace_cuda);
  m.impl("prox_group_l2", prox_group_l2_cuda);
  m.impl("prox_group_l2_", prox_group_l2_inplace_cuda);
  m.impl("keep_topk_", keep_topk_cuda);
  m.impl("keep_topk_groups_", keep_topk_groups_cuda);
}
