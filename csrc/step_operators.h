// `adam_prox_`, `sgd_prox_` and the same for lists of tensors, up to the step itself: what every backend does with
// their arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "apart.h"
#include "changed.h"
#include "step.h"

namespace fsc {
inline namespace FSC_BACKEND {

// A weight, what the step changes beside it, and its share of the penalty.
struct Step {
  at::Tensor weight;
  at::Tensor grad;
  std::vector<at::Tensor> states;  // as many as Optimizer::num_states says
  std::optional<at::Tensor> mask;
  double amount;
  int64_t index = -1;  // in the lists, where it is one of several

  Argument named(const char* alone, const char* list) const { return {alone, list, index}; }
};

// What all steps of a call share.
struct StepRule {
  const char* op;
  Optimizer optimizer;
  Penalty penalty;
  int64_t dim;
  double lr;
  int64_t number;  // from 1

  Argument state_name(const Step& s, size_t i) const {
    if (!optimizer.adam) return s.named("momentum_buffer", "momentum_buffers");
    return i == 0 ? s.named("exp_avg", "exp_avgs") : s.named("exp_avg_sq", "exp_avg_sqs");
  }

  void check() const {
    check_learning_rate(op, lr);
    optimizer.check(op);
    TORCH_CHECK(number >= 1, op, ": step must be at least 1, got ", number);
  }

  void check(const Step& s) const {
    const Argument weight = s.named("weight", "weights");
    check_floating(op, weight, s.weight);
    TORCH_CHECK(s.weight.dim() >= 1, op, ": ", weight, " must have rank at least 1, got ", s.weight.sizes());
    check_state(op, s.named("grad", "grads"), s.grad, s.weight, s.index);
    for (size_t i = 0; i < s.states.size(); ++i) check_state(op, state_name(s, i), s.states[i], s.weight, s.index);
    const int64_t most = penalty.groups ? s.weight.size(group_dim(s)) : s.weight.numel();
    check_amount(op, penalty, s.amount, most, s.named("amount", "amounts"));
    check_mask(op, penalty, s.mask, s.weight, s.index);
  }

  // Where there are no groups no dimension numbers them.
  int64_t group_dim(const Step& s) const {
    return penalty.groups ? check_dim(op, dim, s.weight, s.named("a tensor", "weights")) : 0;
  }

  void check_apart(at::ArrayRef<Step> steps) const {
    Apart apart(op);
    for (const Step& s : steps) {
      apart.changes(s.weight, s.named("weight", "weights"));
      for (size_t i = 0; i < s.states.size(); ++i) apart.changes(s.states[i], state_name(s, i));
      if (s.mask) apart.changes(*s.mask, s.named("mask", "masks"));
      apart.reads(s.grad, s.named("grad", "grads"));
    }
    apart.check();
  }
};

// Whether a weight and what goes with it have their elements in one order without gaps, channels last for instance.
inline bool lie_alike(const Step& s) {
  const auto like_weight = [&](const at::Tensor& tensor) { return tensor.strides() == s.weight.strides(); };
  return s.weight.is_non_overlapping_and_dense() && like_weight(s.grad) && !s.mask &&
         std::all_of(s.states.begin(), s.states.end(), like_weight);
}

// The tensors of a step in memory that kernels run through, and the way back to those that were given. Where every
// element is its own matter, any order of them will do, if it is the same for all.
struct StepWork {
  StepWork(const Step& s, const Penalty& penalty) {
    const bool as_it_is = penalty.is_in_update() && lie_alike(s);
    weight = Changed(s.weight, as_it_is);
    grad = as_it_is ? s.grad : s.grad.contiguous();
    if (s.mask) mask = Changed(*s.mask);
    for (size_t i = 0; i < s.states.size(); ++i) states[i] = Changed(s.states[i], as_it_is);
  }

  void finish() const {
    weight.finish();
    mask.finish();
    for (const Changed& state : states) state.finish();
  }

  Changed weight;
  Changed mask;
  std::array<Changed, 2> states;
  at::Tensor grad;
};

// The steps themselves, of each backend; all arguments are checked.
void run_steps(const StepRule& rule, at::ArrayRef<Step> steps);

// ---- one tensor ----

inline void check_and_run(const StepRule& rule, const Step& step) {
  rule.check();
  rule.check(step);
  rule.check_apart(step);
  run_steps(rule, step);
}

inline void adam_prox_(at::Tensor& weight, const at::Tensor& grad, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
                       const std::optional<at::Tensor>& mask, int64_t step, double lr, double beta1, double beta2,
                       double eps, std::string_view penalty, double amount, int64_t dim) {
  constexpr const char* op = "adam_prox_";
  const Optimizer adam{true, beta1, beta2, eps, 0};
  check_and_run({op, adam, penalty_of(op, penalty), dim, lr, step},
                {weight, grad, {exp_avg, exp_avg_sq}, mask, amount});
}

inline void sgd_prox_(at::Tensor& weight, const at::Tensor& grad, const std::optional<at::Tensor>& momentum_buffer,
                      const std::optional<at::Tensor>& mask, double lr, double momentum, std::string_view penalty,
                      double amount, int64_t dim) {
  constexpr const char* op = "sgd_prox_";
  TORCH_CHECK(momentum_buffer.has_value() == (momentum != 0), op,
              ": momentum_buffer must be given where momentum is not 0 and only there, got momentum ", momentum);
  std::vector<at::Tensor> states;
  if (momentum_buffer) states.push_back(*momentum_buffer);
  const Optimizer sgd{false, 0, 0, 0, momentum};
  check_and_run({op, sgd, penalty_of(op, penalty), dim, lr, 1}, {weight, grad, states, mask, amount});
}

// ---- lists of tensors ----

// The lists beside the weights; `masks` and `momentum_buffers` are empty where there are none.
struct StepLists {
  at::TensorList weights;
  at::TensorList grads;
  std::vector<std::pair<const char*, at::TensorList>> states;
  at::TensorList masks;
  std::optional<at::ArrayRef<double>> amounts;

  void check_lengths(const StepRule& rule) const {
    const auto check = [&](const char* name, const char* what, size_t found) {
      TORCH_CHECK(found == weights.size(), rule.op, ": ", name, " must hold ", weights.size(), " ", what,
                  ", one for each of weights, got ", found);
    };
    check("grads", "tensors", grads.size());
    for (const auto& [name, list] : states) check(name, "tensors", list.size());
    TORCH_CHECK(amounts || rule.penalty.rule == Penalty::Rule::kNone, rule.op,
                ": amounts must be given with every penalty but none, got no amounts");
    if (amounts) check("amounts", "numbers", amounts->size());
    if (!weights.empty()) check_mask_given(rule.op, rule.penalty, !masks.empty(), "masks");
    if (!masks.empty()) check("masks", "tensors", masks.size());
  }

  std::vector<Step> steps() const {
    std::vector<Step> found;
    found.reserve(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      std::vector<at::Tensor> parts;
      for (const auto& state : states) parts.push_back(state.second[i]);
      const auto mask = masks.empty() ? std::nullopt : std::optional<at::Tensor>(masks[i]);
      found.push_back(
          {weights[i], grads[i], std::move(parts), mask, amounts ? (*amounts)[i] : 0.0, static_cast<int64_t>(i)});
    }
    return found;
  }
};

inline void check_and_run(const StepRule& rule, const StepLists& lists) {
  rule.check();
  lists.check_lengths(rule);
  const std::vector<Step> steps = lists.steps();
  for (const Step& step : steps) {
    rule.check(step);
    check_same_dtype(rule.op, step.named("weight", "weights"), step.weight, {"weight", "weights", 0}, steps[0].weight);
  }
  rule.check_apart(steps);
  run_steps(rule, steps);
}

inline void foreach_adam_prox_(at::TensorList weights, at::TensorList grads, at::TensorList exp_avgs,
                               at::TensorList exp_avg_sqs, at::TensorList masks, int64_t step, double lr, double beta1,
                               double beta2, double eps, std::string_view penalty,
                               std::optional<at::ArrayRef<double>> amounts, int64_t dim) {
  constexpr const char* op = "foreach_adam_prox_";
  const Optimizer adam{true, beta1, beta2, eps, 0};
  check_and_run({op, adam, penalty_of(op, penalty), dim, lr, step},
                {weights, grads, {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}}, masks, amounts});
}

inline void foreach_sgd_prox_(at::TensorList weights, at::TensorList grads, at::TensorList momentum_buffers,
                              at::TensorList masks, double lr, double momentum, std::string_view penalty,
                              std::optional<at::ArrayRef<double>> amounts, int64_t dim) {
  constexpr const char* op = "foreach_sgd_prox_";
  TORCH_CHECK(weights.empty() || momentum_buffers.empty() == (momentum == 0), op,
              ": momentum_buffers must be given where momentum is not 0 and only there, got momentum ", momentum);
  StepLists lists{weights, grads, {}, masks, amounts};
  if (!momentum_buffers.empty()) lists.states.emplace_back("momentum_buffers", momentum_buffers);
  const Optimizer sgd{false, 0, 0, 0, momentum};
  check_and_run({op, sgd, penalty_of(op, penalty), dim, lr, 1}, lists);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
