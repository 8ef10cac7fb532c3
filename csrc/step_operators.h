// `adam_prox_` and `sgd_prox_` up to the step itself: what every backend does with their arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <vector>

#include "step.h"

namespace fsc {
inline namespace FSC_BACKEND {

// The arguments that both optimisers share.
struct Step {
  const char* op;
  const at::Tensor& weight;
  const at::Tensor& grad;
  std::vector<at::Tensor> states;
  const std::optional<at::Tensor>& mask;
  Optimizer optimizer;
  std::string_view penalty_name;
  double amount;
  int64_t dim;

  // The groups along `dim` are `weight.size(dim)` many.
  Penalty check(double lr) const {
    check_floating(op, "weight", weight);
    check_state(op, "grad", grad, weight);
    check_learning_rate(op, lr);
    optimizer.check(op);
    const Penalty penalty = penalty_of(op, penalty_name);
    TORCH_CHECK(weight.dim() >= 1, op, ": weight must have rank at least 1, got ", weight.sizes());
    const int64_t groups = weight.size(check_dim(op, dim, weight));
    check_amount(op, penalty, amount, penalty.groups ? groups : weight.numel());
    check_mask(op, penalty, mask, weight);
    return penalty;
  }
};

// The step itself, of each backend; `number` counts from 1.
void run_step(const Step& step, double lr, int64_t number);

inline void adam_prox_(at::Tensor& weight, const at::Tensor& grad, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
                       const std::optional<at::Tensor>& mask, int64_t step, double lr, double beta1, double beta2,
                       double eps, std::string_view penalty, double amount, int64_t dim) {
  constexpr const char* op = "adam_prox_";
  check_state(op, "exp_avg", exp_avg, weight);
  check_state(op, "exp_avg_sq", exp_avg_sq, weight);
  TORCH_CHECK(step >= 1, op, ": step must be at least 1, got ", step);
  const Optimizer adam{true, beta1, beta2, eps, 0};
  run_step({op, weight, grad, {exp_avg, exp_avg_sq}, mask, adam, penalty, amount, dim}, lr, step);
}

inline void sgd_prox_(at::Tensor& weight, const at::Tensor& grad, const std::optional<at::Tensor>& momentum_buffer,
                      const std::optional<at::Tensor>& mask, double lr, double momentum, std::string_view penalty,
                      double amount, int64_t dim) {
  constexpr const char* op = "sgd_prox_";
  TORCH_CHECK(momentum_buffer.has_value() == (momentum != 0), op,
              ": momentum_buffer must be given where momentum is not 0 and only there, got momentum ", momentum);
  std::vector<at::Tensor> states;
  if (momentum_buffer) {
    check_state(op, "momentum_buffer", *momentum_buffer, weight);
    states.push_back(*momentum_buffer);
  }
  const Optimizer sgd{false, 0, 0, 0, momentum};
  run_step({op, weight, grad, states, mask, sgd, penalty, amount, dim}, lr, 1);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
