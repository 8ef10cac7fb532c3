// Proximal operators and hard projections on the CPU: soft threshold, block soft threshold, top-k.
#include "prox.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/prox_kernels.h"
#include "version_counter.h"

namespace {

using fsc::Groups;

// ---- soft threshold ----

// Both tensors share one dense memory format, so their elements pair up in memory order.
void soft_threshold_dense(const at::Tensor& input, const at::Tensor& output, double threshold) {
  AT_DISPATCH_FLOATING_TYPES(input.scalar_type(), "prox_l1", [&] {
    const scalar_t* source = input.const_data_ptr<scalar_t>();
    scalar_t* destination = output.data_ptr<scalar_t>();
    // A threshold that became infinite would turn infinity into NaN.
    const auto reachable = static_cast<scalar_t>(std::min<double>(threshold, std::numeric_limits<scalar_t>::max()));
    at::parallel_for(0, input.numel(), fsc::kProxGrain, [&](int64_t begin, int64_t end) {
      fsc::soft_threshold(source, destination, begin, end, reachable);
    });
  });
}

at::Tensor prox_l1_cpu(const at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1", "input", input);
  fsc::check_threshold("prox_l1", threshold);
  at::Tensor output = at::empty_like(input);
  const bool dense = input.is_non_overlapping_and_dense();
  if (!dense) output.copy_(input);
  soft_threshold_dense(dense ? input : output, output, threshold);
  return output;
}

void prox_l1_inplace_cpu(at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1_", "input", input);
  fsc::check_threshold("prox_l1_", threshold);
  fsc::check_own_memory("prox_l1_", "input", input);
  if (input.is_non_overlapping_and_dense()) {
    soft_threshold_dense(input, input, threshold);
  } else {
    input.copy_(prox_l1_cpu(input, threshold));
  }
  fsc::mark_changed(input);
}

// ---- groups: the slices of a weight along one dimension ----

void shrink_groups(const at::Tensor& weight, const at::Tensor& output, double threshold, int64_t dim) {
  const Groups groups = fsc::groups_of(weight, dim);
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "prox_group_l2", [&] {
    const scalar_t* source = weight.const_data_ptr<scalar_t>();
    fsc::shrink_groups(source, output.data_ptr<scalar_t>(), groups, fsc::group_norms(source, groups), threshold);
  });
}

at::Tensor prox_group_l2_cpu(const at::Tensor& weight, double threshold, int64_t dim) {
  dim = fsc::check_group_arguments("prox_group_l2", weight, threshold, dim);
  const at::Tensor contiguous = weight.contiguous();
  at::Tensor output = at::empty_like(contiguous);
  shrink_groups(contiguous, output, threshold, dim);
  return output;
}

// ---- hard projections ----

template <typename scalar_t>
void check_topk(const char* op, const std::vector<scalar_t>& magnitude, int64_t count) {
  const int64_t most = static_cast<int64_t>(magnitude.size());
  TORCH_CHECK(count >= 0 && count <= most, op, ": count must be in [0, ", most, "], got ", count);
  const bool ordered = std::none_of(magnitude.begin(), magnitude.end(), [](scalar_t m) { return std::isnan(m); });
  TORCH_CHECK(ordered, op, ": weight must not contain NaN, got NaN");
}

at::Tensor keep_topk_cpu(at::Tensor& weight, int64_t count) {
  fsc::check_floating("keep_topk_", "weight", weight);
  fsc::check_own_memory("keep_topk_", "weight", weight);
  const at::Tensor contiguous = weight.contiguous();
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "keep_topk_", [&] {
    scalar_t* data = contiguous.data_ptr<scalar_t>();
    std::vector<scalar_t> magnitude(weight.numel());
    std::transform(data, data + magnitude.size(), magnitude.begin(), [](scalar_t x) { return std::abs(x); });
    check_topk("keep_topk_", magnitude, count);
    at::Tensor mask = at::empty(weight.sizes(), weight.options().dtype(at::kBool));
    bool* keep = mask.data_ptr<bool>();
    fsc::mark_largest(magnitude, count, keep);
    for (size_t i = 0; i < magnitude.size(); ++i) data[i] = keep[i] ? data[i] : scalar_t{0};
    if (!contiguous.is_same(weight)) weight.copy_(contiguous);
    fsc::mark_changed(weight);
    return mask;
  });
}

at::Tensor keep_topk_groups_cpu(at::Tensor& weight, int64_t count, int64_t dim) {
  fsc::check_floating("keep_topk_groups_", "weight", weight);
  dim = fsc::check_group_dim("keep_topk_groups_", weight, dim);
  fsc::check_own_memory("keep_topk_groups_", "weight", weight);
  const at::Tensor contiguous = weight.contiguous();
  const Groups groups = fsc::groups_of(weight, dim);
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "keep_topk_groups_", [&] {
    scalar_t* data = contiguous.data_ptr<scalar_t>();
    const std::vector<double> norms = fsc::group_norms(data, groups);
    check_topk("keep_topk_groups_", norms, count);
    at::Tensor mask = at::empty({groups.count}, weight.options().dtype(at::kBool));
    bool* keep = mask.data_ptr<bool>();
    fsc::mark_largest(norms, count, keep);
    for (int64_t o = 0; o < groups.outer; ++o) {
      for (int64_t g = 0; g < groups.count; ++g) {
        if (!keep[g]) std::fill_n(data + (o * groups.count + g) * groups.inner, groups.inner, scalar_t{0});
      }
    }
    if (!contiguous.is_same(weight)) weight.copy_(contiguous);
    fsc::mark_changed(weight);
    return mask;
  });
}

}  // namespace

void fsc::shrink_groups_of(at::ArrayRef<ShrinkGroups> all) {
  for (const ShrinkGroups& one : all) {
    const at::Tensor contiguous = one.weight.contiguous();
    ::shrink_groups(contiguous, contiguous, one.threshold, one.dim);
    if (!contiguous.is_same(one.weight)) one.weight.copy_(contiguous);
    mark_changed(one.weight);
  }
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("prox_l1", prox_l1_cpu);
  m.impl("prox_l1_", prox_l1_inplace_cpu);
  m.impl("prox_group_l2", prox_group_l2_cpu);
  m.impl("prox_group_l2_", fsc::prox_group_l2_);
  m.impl("foreach_prox_group_l2_", fsc::foreach_prox_group_l2_);
  m.impl("keep_topk_", keep_topk_cpu);
  m.impl("keep_topk_groups_", keep_topk_groups_cpu);
}
