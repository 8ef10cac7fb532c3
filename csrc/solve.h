// The arguments of an optimiser's loop with a proximal operator behind every step, and their checks.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <utility>

#include "apart.h"
#include "step.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_contiguous(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), op, ": ", name, " must be contiguous, got strides ", tensor.strides());
}

// The weight, what the optimiser keeps of it, and the schedule.
struct Loop {
  const char* op;
  const at::Tensor& weight;               // [C_out, C_in, kH, kW] or [C_out, D]
  at::TensorList state;                   // of the weight's shape
  const std::optional<at::Tensor>& mask;  // of the weight's shape
  const at::Tensor& learning_rates;       // [T]
  const at::Tensor& amounts;              // [T]
  Optimizer optimizer;
  Penalty penalty;
  int64_t dim;
  int64_t first_step;

  int64_t num_steps() const { return learning_rates.numel(); }

  void check() const {
    check_floating(op, "weight", weight);
    TORCH_CHECK(weight.dim() >= 2, op, ": weight must be [C_out, C_in, kH, kW] or [C_out, D], got ", weight.sizes());
    check_contiguous(op, "weight", weight);
    optimizer.check(op);
    TORCH_CHECK(static_cast<int64_t>(state.size()) == optimizer.num_states(), op, ": state must hold ",
                optimizer.num_states(), " tensors for this optimizer, got ", state.size());
    for (const at::Tensor& part : state) {
      check_state(op, "state", part, weight);
      check_contiguous(op, "state", part);
    }
    check_mask(op, penalty, mask, weight);
    check_dim(op, dim, weight);
    if (mask) check_contiguous(op, "mask", *mask);
    check_schedule();
  }

  // What a step reads must not change with the weight.
  void check_apart(std::initializer_list<std::pair<const char*, std::optional<at::Tensor>>> read) const {
    Apart apart(op);
    apart.changes(weight, "weight");
    for (size_t i = 0; i < state.size(); ++i) apart.changes(state[i], {"state", "state", static_cast<int64_t>(i)});
    if (mask) apart.changes(*mask, "mask");
    for (const auto& [name, tensor] : read) {
      if (tensor) apart.reads(*tensor, name);
    }
    apart.check();
  }

 private:
  void check_schedule() const {
    for (const auto& [name, values] : {std::pair{"learning_rates", learning_rates}, std::pair{"amounts", amounts}}) {
      TORCH_CHECK(values.scalar_type() == at::kDouble && values.device().is_cpu(), op, ": ", name,
                  " must be float64 on the CPU, got ", values.scalar_type(), " on ", values.device());
      TORCH_CHECK(values.dim() == 1 && values.numel() == num_steps(), op, ": ", name, " must be [", num_steps(),
                  "], one for each step, got ", values.sizes());
      check_contiguous(op, name, values);
    }
    TORCH_CHECK(first_step >= 1, op, ": first_step must be at least 1, got ", first_step);
    const int64_t most = penalty.groups ? weight.size(check_dim(op, dim, weight)) : weight.numel();
    for (int64_t t = 0; t < num_steps(); ++t) {
      check_learning_rate(op, learning_rates.const_data_ptr<double>()[t], {"lr", "learning_rates", t});
      check_amount(op, penalty, amounts.const_data_ptr<double>()[t], most, {"amount", "amounts", t});
    }
  }
};

// `coefficients`: the two betas and eps of Adam, then the momentum of gradient descent.
inline Optimizer optimizer_of(const char* op, bool adam, at::ArrayRef<double> coefficients) {
  TORCH_CHECK(coefficients.size() == 4, op, ": coefficients must hold 4 numbers, got ", coefficients.size());
  return {adam, coefficients[0], coefficients[1], coefficients[2], adam ? 0 : coefficients[3]};
}

}  // namespace FSC_BACKEND
}  // namespace fsc
