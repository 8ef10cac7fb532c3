// What every backend of the proximal operators checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <vector>

#include "apart.h"
#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_threshold(const char* op, double threshold, const Argument& name = "threshold") {
  TORCH_CHECK(std::isfinite(threshold) && threshold >= 0, op, ": ", name, " must be finite and at least 0, got ",
              threshold);
}

inline int64_t check_group_dim(const char* op, const at::Tensor& weight, int64_t dim, int64_t index = -1) {
  TORCH_CHECK(weight.dim() >= 1, op, ": ", Argument("weight", "weights", index),
              " must have groups, so rank at least 1, got ", weight.sizes());
  return check_dim(op, dim, weight, {"a tensor", "weights", index});
}

inline int64_t check_group_arguments(const char* op, const at::Tensor& weight, double threshold, int64_t dim,
                                     int64_t index = -1) {
  check_floating(op, {"weight", "weights", index}, weight);
  check_threshold(op, threshold, {"threshold", "thresholds", index});
  return check_group_dim(op, weight, dim, index);
}

// ---- lists of weights ----

// A weight whose groups shrink in place.
struct ShrinkGroups {
  at::Tensor weight;
  double threshold;
  int64_t dim;  // not negative
};

// The block soft thresholds, of each backend; all arguments are checked.
void shrink_groups_of(at::ArrayRef<ShrinkGroups> all);

inline void prox_group_l2_(at::Tensor& weight, double threshold, int64_t dim) {
  dim = check_group_arguments("prox_group_l2_", weight, threshold, dim);
  check_own_memory("prox_group_l2_", "weight", weight);
  shrink_groups_of(ShrinkGroups{weight, threshold, dim});
}

inline void foreach_prox_group_l2_(at::TensorList weights, at::ArrayRef<double> thresholds, int64_t dim) {
  constexpr const char* op = "foreach_prox_group_l2_";
  TORCH_CHECK(thresholds.size() == weights.size(), op, ": thresholds must hold ", weights.size(),
              " numbers, one for each of weights, got ", thresholds.size());
  std::vector<ShrinkGroups> all;
  Apart apart(op);
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const Argument name("weight", "weights", index);
    all.push_back({weights[i], thresholds[i], check_group_arguments(op, weights[i], thresholds[i], dim, index)});
    check_same_dtype(op, name, weights[i], {"weight", "weights", 0}, weights[0]);
    apart.changes(weights[i], name);
  }
  apart.check();
  shrink_groups_of(all);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
