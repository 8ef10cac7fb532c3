// Proximal operators and hard projections on CUDA devices.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "changed.h"
#include "cuda/dispatch.cuh"
#include "cuda/launch.cuh"
#include "cuda/prox_launch.cuh"
#include "cuda/prox_select_launch.cuh"
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
  fsc::check_own_memory("prox_l1_", "input", input);
  const fsc::OnDeviceOf device(input);
  if (input.is_non_overlapping_and_dense()) {
    soft_threshold_dense(input, input, threshold);
  } else {
    input.copy_(prox_l1_cuda(input, threshold));
  }
  fsc::mark_changed(input);
}

void write_back(at::Tensor& weight, const at::Tensor& contiguous) {
  if (!contiguous.is_same(weight)) weight.copy_(contiguous);
  fsc::mark_changed(weight);
}

// ---- groups ----

at::Tensor group_norms(const at::Tensor& weight, const Groups& groups) {
  at::Tensor norms = at::empty({groups.count}, weight.options().dtype(at::kDouble).memory_format(std::nullopt));
  FSC_DISPATCH(weight.scalar_type(), "group_norms",
               [&] { fsc::launch_group_norms(weight.const_data_ptr<scalar_t>(), norms.data_ptr<double>(), groups); });
  return norms;
}

at::Tensor prox_group_l2_cuda(const at::Tensor& weight, double threshold, int64_t dim) {
  dim = fsc::check_group_arguments("prox_group_l2", weight, threshold, dim);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  at::Tensor output = at::empty_like(contiguous);
  FSC_DISPATCH(weight.scalar_type(), "prox_group_l2", [&] {
    fsc::launch_shrink_groups<scalar_t>(fsc::shrink_row(contiguous.const_data_ptr<scalar_t>(),
                                                        output.data_ptr<scalar_t>(), fsc::groups_of(weight, dim),
                                                        {threshold, nullptr}));
  });
  return output;
}

// ---- hard projections ----

void check_count(const char* op, int64_t count, int64_t most) {
  TORCH_CHECK(count >= 0 && count <= most, op, ": count must be in [0, ", most, "], got ", count);
}

// Marks the `count` largest of the values, and sets the others to zero where `clears`.
template <typename value_t>
at::Tensor marked(const at::Tensor& values, int64_t count, bool clears) {
  at::Tensor mask = at::empty(values.sizes(), values.options().dtype(at::kBool).memory_format(std::nullopt));
  const fsc::device::Kept<value_t> kept{reinterpret_cast<uint8_t*>(mask.data_ptr<bool>()),
                                        {clears ? values.data_ptr<value_t>() : nullptr, nullptr, nullptr}};
  const fsc::Selection<value_t> selection(values.numel(), values.options());
  selection.mark(values.const_data_ptr<value_t>(), {static_cast<double>(count), nullptr}, kept);
  return mask;
}

at::Tensor keep_topk_cuda(at::Tensor& weight, int64_t count) {
  fsc::check_floating("keep_topk_", "weight", weight);
  fsc::check_own_memory("keep_topk_", "weight", weight);
  check_count("keep_topk_", count, weight.numel());
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  const at::Tensor mask =
      FSC_DISPATCH(weight.scalar_type(), "keep_topk_", [&] { return marked<scalar_t>(contiguous, count, true); });
  write_back(weight, contiguous);
  return mask;
}

at::Tensor keep_topk_groups_cuda(at::Tensor& weight, int64_t count, int64_t dim) {
  fsc::check_floating("keep_topk_groups_", "weight", weight);
  dim = fsc::check_group_dim("keep_topk_groups_", weight, dim);
  fsc::check_own_memory("keep_topk_groups_", "weight", weight);
  check_count("keep_topk_groups_", count, weight.size(dim));
  const fsc::OnDeviceOf device(weight);
  const at::Tensor contiguous = weight.contiguous();
  const Groups groups = fsc::groups_of(weight, dim);
  const at::Tensor mask = marked<double>(group_norms(contiguous, groups), count, false);
  const auto* keep = reinterpret_cast<const uint8_t*>(mask.const_data_ptr<bool>());
  FSC_DISPATCH(weight.scalar_type(), "keep_topk_groups_", [&] {
    const fsc::device::Kept<scalar_t> kept{nullptr, {contiguous.data_ptr<scalar_t>(), nullptr, nullptr}};
    fsc::launch_clear_groups(keep, groups, kept);
  });
  write_back(weight, contiguous);
  return mask;
}

}  // namespace

void fsc::shrink_groups_of(at::ArrayRef<ShrinkGroups> all) {
  if (all.empty()) return;
  const OnDeviceOf device(all[0].weight);
  std::vector<Changed> works;
  for (const ShrinkGroups& one : all) works.emplace_back(one.weight);
  FSC_DISPATCH(all[0].weight.scalar_type(), "prox_group_l2_", [&] {
    std::vector<fsc::device::ShrinkRow<scalar_t>> rows;
    for (size_t i = 0; i < all.size(); ++i) {
      scalar_t* data = works[i].data<scalar_t>();
      rows.push_back(
          shrink_row<scalar_t>(data, data, groups_of(all[i].weight, all[i].dim), {all[i].threshold, nullptr}));
    }
    launch_shrink_groups<scalar_t>(rows);
  });
  for (const Changed& work : works) work.finish();
}

FSC_CUDA_OPERATORS(m) {
  m.impl("prox_l1", prox_l1_cuda);
  m.impl("prox_l1_", prox_l1_inplace_cuda);
  m.impl("prox_group_l2", prox_group_l2_cuda);
  m.impl("prox_group_l2_", fsc::prox_group_l2_);
  m.impl("foreach_prox_group_l2_", fsc::foreach_prox_group_l2_);
  m.impl("keep_topk_", keep_topk_cuda);
  m.impl("keep_topk_groups_", keep_topk_groups_cuda);
}
