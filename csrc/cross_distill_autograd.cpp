// The gradients of cross distillation on every device. In C++, because a step takes one of a small layer, and calls of
// Python would cost as much as the kernels. What they compute is left to operators, so that torch.compile sees it.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "cross_distill_operators.h"

namespace {

using at::AutoDispatchBelowADInplaceOrView;
using c10::DispatchKeySet;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Every forward below has as many behind the context; a backward owes each a gradient, undefined for what is no tensor.
constexpr size_t kArguments = 5;

template <typename Signature>
c10::TypedOperatorHandle<Signature> operator_of(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

template <typename... Tensors>
bool recorded(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (tensors.requires_grad() || ...);
}

// Without the graph that made the tensor, which nobody needs.
at::Tensor constant(const at::Tensor& tensor) { return tensor.requires_grad() ? tensor.detach() : tensor; }

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

// Gradients as they are, which say in the words of Python's decorator that they cannot be differentiated again.
struct OnceDifferentiable : torch::autograd::Function<OnceDifferentiable> {
  // Lists, for of vectors the function would see no edges.
  static variable_list forward(AutogradContext*, at::TensorList gradients, at::TensorList) { return gradients.vec(); }

  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK(false, "trying to differentiate twice a function that was marked with @once_differentiable");
  }
};

// Of the backward that runs. Gradients depend on its inputs even where a constant comes in: a Hessian would be 0.
variable_list once_differentiable(const at::Tensor& grad_output, variable_list gradients) {
  const auto running = torch::autograd::get_current_node();
  if (!at::GradMode::is_enabled() || !running) return gradients;
  variable_list inputs{grad_output}, defined;
  for (const torch::autograd::Edge& edge : running->next_edges()) {
    if (!edge.is_valid()) continue;
    inputs.push_back(at::empty({0}, grad_output.options()));  // in its place
    torch::autograd::impl::set_gradient_edge(inputs.back(), edge);
  }
  for (const at::Tensor& gradient : gradients) {
    if (gradient.defined()) defined.push_back(gradient);
  }
  variable_list marked = OnceDifferentiable::apply(at::TensorList(defined), at::TensorList(inputs));
  for (auto next = marked.begin(); at::Tensor& gradient : gradients) {
    if (gradient.defined()) gradient = *next++;
  }
  return gradients;
}

// ---- mixture ----

std::tuple<at::Tensor, at::Tensor> mix_below(DispatchKeySet keys, const at::Tensor& teacher, const at::Tensor& student,
                                             double alpha, double beta) {
  static const auto op = operator_of<decltype(fsc::soft_cross_mix)>("fsc_ext::soft_cross_mix");
  const AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(keys & c10::after_autograd_keyset, teacher, student, alpha, beta);
}

struct SoftCrossMix : torch::autograd::Function<SoftCrossMix> {
  static constexpr bool is_traceable = true;

  static variable_list forward(AutogradContext* ctx, const at::Tensor& teacher, const at::Tensor& student,
                               DispatchKeySet keys, double alpha, double beta) {
    ctx->saved_data["alpha"] = alpha;
    ctx->saved_data["beta"] = beta;
    const auto [mixed_teacher, mixed_student] = mix_below(keys, teacher, student, alpha, beta);
    return {mixed_teacher, mixed_student};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const double alpha = ctx->saved_data["alpha"].toDouble(), beta = ctx->saved_data["beta"].toDouble();
    variable_list gradients(kArguments);
    if (ctx->needs_input_grad(0)) gradients[0] = grads[0].mul(alpha).add(grads[1].mul(1 - beta));
    if (ctx->needs_input_grad(1)) gradients[1] = grads[0].mul(1 - alpha).add(grads[1].mul(beta));
    return gradients;
  }
};

std::tuple<at::Tensor, at::Tensor> soft_cross_mix(DispatchKeySet keys, const at::Tensor& teacher,
                                                  const at::Tensor& student, double alpha, double beta) {
  if (!recorded(teacher, student)) return mix_below(keys, teacher, student, alpha, beta);
  const variable_list mixed = SoftCrossMix::apply(teacher, student, keys, alpha, beta);
  return {mixed[0], mixed[1]};
}

// ---- residual epilogue ----

std::tuple<at::Tensor, at::Tensor> residual_below(DispatchKeySet keys, const at::Tensor& preactivation,
                                                  const at::Tensor& target, std::string_view activation) {
  static const auto op = operator_of<decltype(fsc::distill_residual)>("fsc_ext::distill_residual");
  const AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(keys & c10::after_autograd_keyset, preactivation, target, activation);
}

// The residual is no output of the function, for it has no gradient. The target stands among what is no tensor.
struct DistillResidual : torch::autograd::Function<DistillResidual> {
  static constexpr bool is_traceable = true;

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& preactivation, DispatchKeySet keys,
                            const at::Tensor* target, std::string_view activation, at::Tensor* residual) {
    at::Tensor loss;
    std::tie(loss, *residual) = residual_below(keys, preactivation, *target, activation);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({*residual});
    return loss;
  }

  // d loss/dS = 2 R.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list gradients(kArguments);
    if (!grads[0].defined()) return gradients;
    {
      const at::AutoGradMode off(false);
      gradients[0] = grads[0].mul(2).mul(ctx->get_saved_variables()[0]);
    }
    return once_differentiable(grads[0], std::move(gradients));
  }
};

std::tuple<at::Tensor, at::Tensor> distill_residual(DispatchKeySet keys, const at::Tensor& preactivation,
                                                    const at::Tensor& target, std::string_view activation) {
  if (!recorded(preactivation)) return residual_below(keys, preactivation, target, activation);
  at::Tensor residual;
  const at::Tensor loss = DistillResidual::apply(preactivation, keys, &target, activation, &residual);
  return {loss, residual};
}

// ---- layer ----

// The layer's arguments but for the student's tensors: constants of the loss.
struct LayerConstants {
  DispatchKeySet keys;
  const at::Tensor& input_teacher;
  const at::Tensor& weight_teacher;
  const std::optional<at::Tensor>& bias_teacher;
  double alpha;
  double beta;
  std::string_view activation;
  at::IntArrayRef stride;
  at::IntArrayRef padding;
  at::IntArrayRef dilation;
  int64_t groups;

  std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& input, const at::Tensor& weight,
                                             const std::optional<at::Tensor>& bias) const {
    static const auto op = operator_of<decltype(fsc::cross_distill_layer)>("fsc_ext::cross_distill_layer");
    const AutoDispatchBelowADInplaceOrView guard;
    return op.redispatch(keys & c10::after_autograd_keyset, input_teacher, input, weight_teacher, weight, bias_teacher,
                         bias, alpha, beta, activation, stride, padding, dilation, groups);
  }

  // What no tensor is goes into `data`.
  void save(ska::flat_hash_map<std::string, at::IValue>& data) const {
    data["alpha"] = alpha;
    data["beta"] = beta;
    data["activation"] = std::string(activation);
    data["stride"] = stride;
    data["padding"] = padding;
    data["dilation"] = dilation;
    data["groups"] = groups;
  }
};

struct CrossDistillLayer : torch::autograd::Function<CrossDistillLayer> {
  static constexpr bool is_traceable = true;

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const LayerConstants& constants,
                            at::Tensor* residual) {
    at::Tensor loss;
    std::tie(loss, *residual) = constants.forward(input, weight, bias);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({*residual, constant(constants.input_teacher), input, constant(constants.weight_teacher),
                            weight, constants.bias_teacher ? constant(*constants.bias_teacher) : at::Tensor(),
                            bias.value_or(at::Tensor())});
    constants.save(ctx->saved_data);
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    if (!grads[0].defined()) return variable_list(kArguments);
    static const auto op =
        operator_of<decltype(fsc::cross_distill_layer_backward)>("fsc_ext::cross_distill_layer_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    // A bias that is not there has no edge that could be asked.
    const std::array<bool, 3> mask{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                   saved[6].defined() && ctx->needs_input_grad(2)};
    variable_list gradients(kArguments);
    {
      const AutoDispatchBelowADInplaceOrView guard;
      std::tie(gradients[0], gradients[1], gradients[2]) =
          op.call(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], if_defined(saved[5]),
                  if_defined(saved[6]), data["alpha"].toDouble(), data["beta"].toDouble(),
                  data["activation"].toStringView(), data["stride"].toIntVector(), data["padding"].toIntVector(),
                  data["dilation"].toIntVector(), data["groups"].toInt(), mask);
    }
    return once_differentiable(grads[0], std::move(gradients));
  }
};

std::tuple<at::Tensor, at::Tensor> cross_distill_layer(
    DispatchKeySet keys, const at::Tensor& input_teacher, const at::Tensor& input_student,
    const at::Tensor& weight_teacher, const at::Tensor& weight_student, const std::optional<at::Tensor>& bias_teacher,
    const std::optional<at::Tensor>& bias_student, double alpha, double beta, std::string_view activation,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const LayerConstants constants{keys,       input_teacher, weight_teacher, bias_teacher, alpha, beta,
                                 activation, stride,        padding,        dilation,     groups};
  if (!recorded(input_student, weight_student, bias_student.value_or(at::Tensor()))) {
    return constants.forward(input_student, weight_student, bias_student);
  }
  at::Tensor residual;
  const at::Tensor loss = CrossDistillLayer::apply(input_student, weight_student, bias_student, constants, &residual);
  return {loss, residual};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, Autograd, m) {
  m.impl("soft_cross_mix", soft_cross_mix);
  m.impl("distill_residual", distill_residual);
  m.impl("cross_distill_layer", cross_distill_layer);
}
