// The contents page: the schema of every operator, once, and the Python module `_C` that says how
// this build was made. Implementations register themselves per device in cpu/<stem>.cpp and
// cuda/<stem>.cu; fake kernels and autograd stand in fsc_ext/<stem>.py, the autograd of cross_distill
// in cross_distill_autograd.cpp.
#include <pybind11/pybind11.h>
#include <torch/library.h>
#include <torch/version.h>

#include <string>

namespace {

// fsc_ext/_version.py reads it in the file before it loads the module: beside another torch that
// fails, with the name of a missing symbol for all explanation.
__attribute__((used)) constexpr char kCompiledAgainst[] =
    "fsc_ext was compiled against torch [" TORCH_VERSION "] CUDA [" FSC_CUDA_VERSION "]";

}  // namespace

TORCH_LIBRARY(fsc_ext, m) {
  // cross_distill
  m.def("soft_cross_mix(Tensor input_teacher, Tensor input_student, float alpha, float beta) -> (Tensor, Tensor)");
  m.def("distill_residual(Tensor preactivation, Tensor target, str activation) -> (Tensor loss, Tensor residual)");
  m.def(
      "cross_distill_layer(Tensor input_teacher, Tensor input_student, Tensor weight_teacher, Tensor weight_student, "
      "Tensor? bias_teacher, Tensor? bias_student, float alpha, float beta, str activation, int[2] stride, "
      "int[2] padding, int[2] dilation, int groups) -> (Tensor loss, Tensor residual)");
  m.def(
      "cross_distill_layer_backward(Tensor grad_loss, Tensor residual, Tensor input_teacher, Tensor input_student, "
      "Tensor weight_teacher, Tensor weight_student, Tensor? bias_teacher, Tensor? bias_student, float alpha, "
      "float beta, str activation, int[2] stride, int[2] padding, int[2] dilation, int groups, bool[3] output_mask) "
      "-> (Tensor grad_input_student, Tensor grad_weight_student, Tensor grad_bias_student)");

  // prox
  m.def("prox_l1(Tensor input, float threshold) -> Tensor");
  m.def("prox_l1_(Tensor(a!) input, float threshold) -> ()");
  m.def("prox_group_l2(Tensor weight, float threshold, int dim) -> Tensor");
  m.def("prox_group_l2_(Tensor(a!) weight, float threshold, int dim) -> ()");
  m.def("foreach_prox_group_l2_(Tensor(a!)[] weights, float[] thresholds, int dim) -> ()");
  m.def("keep_topk_(Tensor(a!) weight, int count) -> Tensor");
  m.def("keep_topk_groups_(Tensor(a!) weight, int count, int dim) -> Tensor");

  // quantize
  m.def("quantize_weight(Tensor weight, int bits, bool per_channel) -> Tensor");
  m.def("prox_quantize(Tensor weight, int bits, float strength, bool per_channel) -> Tensor");

  // step
  m.def(
      "adam_prox_(Tensor(a!) weight, Tensor grad, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor(d!)? mask, "
      "int step, float lr, float beta1, float beta2, float eps, str penalty, float amount, int dim) -> ()");
  m.def(
      "sgd_prox_(Tensor(a!) weight, Tensor grad, Tensor(b!)? momentum_buffer, Tensor(c!)? mask, float lr, "
      "float momentum, str penalty, float amount, int dim) -> ()");
  m.def(
      "foreach_adam_prox_(Tensor(a!)[] weights, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
      "Tensor(d!)[] masks, int step, float lr, float beta1, float beta2, float eps, str penalty, float[]? amounts, "
      "int dim) -> ()");
  m.def(
      "foreach_sgd_prox_(Tensor(a!)[] weights, Tensor[] grads, Tensor(b!)[] momentum_buffers, Tensor(c!)[] masks, "
      "float lr, float momentum, str penalty, float[]? amounts, int dim) -> ()");

  // solve
  m.def(
      "solve_quadratic_(Tensor(a!) weight, Tensor(b!)[] state, Tensor(c!)? mask, Tensor hessian, Tensor target, "
      "Tensor learning_rates, Tensor amounts, float scale, bool adam, float[4] coefficients, str penalty, int dim, "
      "int first_step) -> Tensor");
  m.def(
      "solve_relu_(Tensor(a!) weight, Tensor(b!)[] state, Tensor(c!)? mask, Tensor input, Tensor target, Tensor? bias, "
      "Tensor? shortcut, Tensor? image_weight, Tensor learning_rates, Tensor amounts, float scale, str activation, "
      "int[2] stride, int[2] padding, int[2] dilation, int batch_size, bool adam, float[4] coefficients, str penalty, "
      "int dim, int first_step) -> Tensor");

  // gram
  m.def(
      "gram_accumulate_(Tensor(a!)? gram_student, Tensor(b!)? gram_cross, Tensor(c!)? gram_teacher, Tensor? student, "
      "Tensor? teacher, int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation, "
      "Tensor? channels_student=None, Tensor? channels_teacher=None) -> ()");

  // elimination
  m.def("elimination_order(Tensor weight, Tensor inverse, int removable) -> (Tensor order, Tensor rises)");

  // line_search
  m.def(
      "line_search_relu_(Tensor(a!) output, Tensor direction, Tensor target) "
      "-> (Tensor steps, Tensor losses, Tensor residual)");

  // fold
  m.def(
      "fuse_conv_bn(Tensor weight, Tensor? bias, Tensor running_mean, Tensor running_var, Tensor? bn_weight, "
      "Tensor? bn_bias, float eps) -> (Tensor weight, Tensor bias)");
  m.def(
      "foreach_fuse_conv_bn(Tensor[] weights, Tensor?[] biases, Tensor[] running_means, Tensor[] running_vars, "
      "Tensor?[] bn_weights, Tensor?[] bn_biases, float[] eps) -> (Tensor[] weights, Tensor[] biases)");
  m.def(
      "absorb_conv1x1(Tensor weight, Tensor? bias, Tensor pointwise_weight, Tensor? pointwise_bias) "
      "-> (Tensor weight, Tensor bias)");
  m.def(
      "foreach_absorb_conv1x1(Tensor[] weights, Tensor?[] biases, Tensor[] pointwise_weights, "
      "Tensor?[] pointwise_biases) -> (Tensor[] weights, Tensor[] biases)");
}

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled operators of fsc_ext; importing it registers torch.ops.fsc_ext.";
  m.def("build_info", [] {
    pybind11::dict info;
    info["torch"] = std::string(TORCH_VERSION);
    info["compiler"] = std::string(__VERSION__);
    info["cuda"] = FSC_WITH_CUDA != 0;
    info["cuda_reason"] = std::string(FSC_CUDA_REASON);
    return info;
  });
}
