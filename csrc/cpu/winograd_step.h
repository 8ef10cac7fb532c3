// Loss and gradient of one layer on inputs and targets that stay, by Winograd's passes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "cpu/winograd.h"
#include "solve_operators.h"

namespace fsc::winograd {

class Step {
 public:
  // Whether these passes serve the layer on this machine, and are faster than at::convolution.
  static bool pays(const Images& images, const at::Tensor& weight);

  // Puts inputs and targets in order once; `images` holds at least one.
  Step(const Images& images, const at::Tensor& weight);

  // The summed loss at a weight [C_out, C_in, 3, 3], both contiguous; `scale` times its gradient goes to `grad`.
  double differentiate(const at::Tensor& weight, double scale, const at::Tensor& grad);

 private:
  void put_in_order(const at::Tensor& images, float* to) const;
  double run(const Filters& filters, int64_t part, const float* u, float* du, float* m, float* squares) const;

  Layer layer_;
  const Passes& passes_;
  std::vector<Filters> filters_;
  std::vector<Panel> panels_;
  int64_t parts_;  // of the panels, each with a gradient of its own, added in order
  bool relu_;
  at::Tensor v_;         // panel by panel
  at::Tensor target_;    // filters by filters [rows, pixels, F]
  at::Tensor shortcut_;  // as the target, or undefined
  at::Tensor bias_;      // [C_out and more], or undefined
  at::Tensor share_;     // [N], or undefined
  at::Tensor norms_;     // [C_in] of the channels
  at::Tensor u_, du_, m_;
};

}  // namespace fsc::winograd
