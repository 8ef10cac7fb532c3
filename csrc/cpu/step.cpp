// A step of Adam or of gradient descent with the proximal operator behind it, on the CPU.
#include "step.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <optional>
#include <string_view>
#include <vector>

#include "cpu/step_kernels.h"
#include "version_counter.h"

namespace {

// A tensor that a step changes: worked on in contiguous memory, then written back.
class Changed {
 public:
  Changed() = default;
  explicit Changed(const at::Tensor& tensor) : tensor_(tensor), work_(tensor.contiguous()) {}

  template <typename scalar_t>
  scalar_t* data() const {
    return work_.defined() ? work_.data_ptr<scalar_t>() : nullptr;
  }

  void finish() const {
    if (!tensor_.defined()) return;
    if (!work_.is_same(tensor_)) tensor_.copy_(work_);
    fsc::mark_changed(tensor_);
  }

 private:
  at::Tensor tensor_;
  at::Tensor work_;
};

// The arguments that both optimisers share.
struct Step {
  const char* op;
  const at::Tensor& weight;
  const at::Tensor& grad;
  std::vector<at::Tensor> states;
  const std::optional<at::Tensor>& mask;
  fsc::Optimizer optimizer;
  std::string_view penalty_name;
  double amount;
  int64_t dim;

  void run(double lr, int64_t number) const {
    fsc::check_floating(op, "weight", weight);
    fsc::check_state(op, "grad", grad, weight);
    fsc::check_learning_rate(op, lr);
    optimizer.check(op);
    const fsc::Penalty penalty = fsc::penalty_of(op, penalty_name);
    TORCH_CHECK(weight.dim() >= 1, op, ": weight must have rank at least 1, got ", weight.sizes());
    const int64_t along = fsc::check_dim(op, dim, weight);
    const fsc::Groups groups = fsc::groups_of(weight, along);
    fsc::check_amount(op, penalty, amount, penalty.groups ? groups.count : weight.numel());
    fsc::check_mask(op, penalty, mask, weight);

    const Changed changed_weight(weight), changed_mask = mask ? Changed(*mask) : Changed();
    std::vector<Changed> changed_states(2);
    for (size_t i = 0; i < states.size(); ++i) changed_states[i] = Changed(states[i]);
    const at::Tensor gradient = grad.contiguous();
    AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "step", [&] {
      const fsc::Parameter<scalar_t> parameter{changed_weight.data<scalar_t>(),
                                               {changed_states[0].data<scalar_t>(), changed_states[1].data<scalar_t>()},
                                               reinterpret_cast<uint8_t*>(changed_mask.data<bool>()),
                                               groups};
      fsc::step(parameter, gradient.const_data_ptr<scalar_t>(), {optimizer, lr, number}, penalty, amount);
    });
    changed_weight.finish();
    changed_mask.finish();
    for (const Changed& state : changed_states) state.finish();
  }
};

void adam_prox_cpu_(at::Tensor& weight, const at::Tensor& grad, at::Tensor& exp_avg, at::Tensor& exp_avg_sq,
                    const std::optional<at::Tensor>& mask, int64_t step, double lr, double beta1, double beta2,
                    double eps, std::string_view penalty, double amount, int64_t dim) {
  constexpr const char* op = "adam_prox_";
  fsc::check_state(op, "exp_avg", exp_avg, weight);
  fsc::check_state(op, "exp_avg_sq", exp_avg_sq, weight);
  TORCH_CHECK(step >= 1, op, ": step must be at least 1, got ", step);
  const fsc::Optimizer adam{true, beta1, beta2, eps, 0};
  Step{op, weight, grad, {exp_avg, exp_avg_sq}, mask, adam, penalty, amount, dim}.run(lr, step);
}

void sgd_prox_cpu_(at::Tensor& weight, const at::Tensor& grad, const std::optional<at::Tensor>& momentum_buffer,
                   const std::optional<at::Tensor>& mask, double lr, double momentum, std::string_view penalty,
                   double amount, int64_t dim) {
  constexpr const char* op = "sgd_prox_";
  TORCH_CHECK(momentum_buffer.has_value() == (momentum != 0), op,
              ": momentum_buffer must be given where momentum is not 0 and only there, got momentum ", momentum);
  std::vector<at::Tensor> states;
  if (momentum_buffer) {
    fsc::check_state(op, "momentum_buffer", *momentum_buffer, weight);
    states.push_back(*momentum_buffer);
  }
  const fsc::Optimizer sgd{false, 0, 0, 0, momentum};
  Step{op, weight, grad, states, mask, sgd, penalty, amount, dim}.run(lr, 1);
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("adam_prox_", adam_prox_cpu_);
  m.impl("sgd_prox_", sgd_prox_cpu_);
}
