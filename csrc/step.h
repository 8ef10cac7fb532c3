// What one step of an optimiser followed by a proximal operator is made of, whatever the device: the
// penalties, the optimisers and the checks of their arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

// How the proximal operator takes away, and whether from single weights or from groups of them.
struct Penalty {
  enum class Rule {
    kNone,
    kShrink,     // soft threshold by the amount (Eq. 10, 11)
    kKeep,       // the amount largest stay as they are, the others become zero for good
    kKeepShrunk  // soft threshold by the largest that goes, so that the amount largest stay
  };
  Rule rule;
  bool groups;

  // Soft thresholds of single weights need no pass over memory beside the update's.
  bool shrinks_in_update() const { return rule == Rule::kShrink && !groups; }
  bool is_in_update() const { return rule == Rule::kNone || shrinks_in_update(); }
  bool counts() const { return rule == Rule::kKeep || rule == Rule::kKeepShrunk; }
};

inline Penalty penalty_of(const char* op, std::string_view name) {
  using Rule = Penalty::Rule;
  if (name == "none") return {Rule::kNone, false};
  if (name == "l1") return {Rule::kShrink, false};
  if (name == "group_l2") return {Rule::kShrink, true};
  if (name == "topk") return {Rule::kKeep, false};
  if (name == "topk_groups") return {Rule::kKeep, true};
  if (name == "soft_topk") return {Rule::kKeepShrunk, false};
  TORCH_CHECK(name == "soft_topk_groups", op,
              ": penalty must be none, l1, group_l2, topk, topk_groups, soft_topk or soft_topk_groups, got '", name,
              "'");
  return {Rule::kKeepShrunk, true};
}

// `most` is the number of weights or of groups.
inline void check_amount(const char* op, const Penalty& penalty, double amount, int64_t most,
                         const Argument& name = "amount") {
  if (penalty.counts()) {
    TORCH_CHECK(amount >= 0 && amount <= static_cast<double>(most) && amount == std::floor(amount), op, ": ", name,
                " must be a whole number in [0, ", most, "], got ", amount);
  } else if (penalty.rule == Penalty::Rule::kShrink) {
    TORCH_CHECK(std::isfinite(amount) && amount >= 0, op, ": ", name, " must be finite and at least 0, got ", amount);
  }
}

inline void check_mask_given(const char* op, const Penalty& penalty, bool given, const Argument& name) {
  TORCH_CHECK((penalty.rule == Penalty::Rule::kKeep) == given, op, ": ", name,
              " must be given with penalty topk or topk_groups and with no other");
}

inline void check_mask(const char* op, const Penalty& penalty, const std::optional<at::Tensor>& mask,
                       const at::Tensor& weight, int64_t index = -1) {
  const Argument name("mask", "masks", index);
  check_mask_given(op, penalty, mask.has_value(), name);
  if (!mask) return;
  TORCH_CHECK(mask->scalar_type() == at::kBool, op, ": ", name, " must be bool, got ", mask->scalar_type());
  check_same_shape(op, name, *mask, {"weight", "weights", index}, weight);
}

inline void check_learning_rate(const char* op, double lr, const Argument& name = "lr") {
  TORCH_CHECK(std::isfinite(lr) && lr >= 0, op, ": ", name, " must be finite and at least 0, got ", lr);
}

// Adam, or gradient descent with momentum where `adam` is false.
struct Optimizer {
  bool adam;
  double beta1;
  double beta2;
  double eps;
  double momentum;

  // How many tensors of the weight's shape it keeps.
  int64_t num_states() const { return adam ? 2 : (momentum != 0 ? 1 : 0); }

  // What stays of the first state, and what comes in: in float32 the difference of 1 and beta would have few digits.
  double decay() const { return adam ? beta1 : momentum; }
  double fresh() const { return 1 - decay(); }
  double fresh_square() const { return 1 - beta2; }

  void check(const char* op) const {
    TORCH_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, op, ": betas must be in [0, 1), got (", beta1, ", ",
                beta2, ")");
    TORCH_CHECK(std::isfinite(eps) && eps >= 0, op, ": eps must be finite and at least 0, got ", eps);
    TORCH_CHECK(momentum >= 0 && momentum < 1, op, ": momentum must be in [0, 1), got ", momentum);
  }
};

// The scalars of one step of torch.optim.Adam, or of torch.optim.SGD without dampening.
struct Update {
  Update(const Optimizer& optimizer, double lr, int64_t step)
      : adam(optimizer.adam),
        decay(optimizer.decay()),
        fresh(optimizer.fresh()),
        decay_square(optimizer.beta2),
        fresh_square(optimizer.fresh_square()),
        eps(optimizer.eps),
        rate(optimizer.adam ? lr / (1 - std::pow(optimizer.beta1, step)) : lr),
        root(std::sqrt(1 - std::pow(optimizer.beta2, step))) {}

  bool adam;
  double decay;
  double fresh;
  double decay_square;
  double fresh_square;
  double eps;
  double rate;
  double root;
};

inline void check_state(const char* op, const Argument& name, const at::Tensor& state, const at::Tensor& weight,
                        int64_t index = -1) {
  const Argument other("weight", "weights", index);
  check_same_dtype(op, name, state, other, weight);
  check_same_shape(op, name, state, other, weight);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
