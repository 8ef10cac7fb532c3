// Loss and gradient of one layer on inputs and targets that stay, by Winograd's passes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "cpu/winograd_plan.h"
#include "solve_operators.h"

namespace fsc::winograd {

class Step {
 public:
  static std::optional<Plan> plan(const Images& images, const at::Tensor& weight);

  // Puts inputs and targets in order once.
  Step(const Images& images, const at::Tensor& weight);

  // The summed loss at a weight [C_out, C_in, 3, 3], both contiguous; `scale` times its gradient goes to `grad`.
  double differentiate(const at::Tensor& weight, double scale, const at::Tensor& grad);

 private:
  at::Tensor in_order(const at::Tensor& images) const;
  at::Tensor rounding_of(const Images& images, const at::Tensor& weight) const;
  double run(int64_t set, int64_t part, int64_t slot);

  Plan plan_;
  bool relu_;
  at::Tensor v_;
  at::Tensor target_;    // set by set of filters, [rows, pixels, F]
  at::Tensor shortcut_;  // as the target, or undefined
  at::Tensor bias_;      // or undefined
  at::Tensor share_;     // [N], or undefined
  at::Tensor arrived_;   // [F of all sets], squared norms of residuals that are the rounding of outputs
  at::Tensor u_, m_;     // of what is under way
  GradientSums sums_;
};

}  // namespace fsc::winograd
