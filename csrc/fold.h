// What every backend of `fuse_conv_bn`, of `absorb_conv1x1` and of the same for lists of layers checks before it works.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

using OptionalTensor = std::optional<at::Tensor>;
using Folded = std::tuple<at::Tensor, at::Tensor>;                                 // weight and bias
using FoldedLists = std::tuple<std::vector<at::Tensor>, std::vector<at::Tensor>>;  // weights and biases

// A convolution and the BatchNorm after it; vectors are [C_out].
struct FuseLayer {
  const char* op;
  at::Tensor weight;  // [C_out, C_in, ...]
  OptionalTensor bias;
  at::Tensor running_mean;
  at::Tensor running_var;
  OptionalTensor bn_weight;
  OptionalTensor bn_bias;
  double eps;
  int64_t index = -1;  // in the lists, where it is one of several

  Argument named(const char* alone, const char* list) const { return {alone, list, index}; }

  void check() const {
    const Argument name = named("weight", "weights");
    check_floating(op, name, weight);
    TORCH_CHECK(weight.dim() >= 2, op, ": ", name, " must be [C_out, C_in, ...], got ", weight.sizes());
    check_channels(named("running_mean", "running_means"), running_mean);
    check_channels(named("running_var", "running_vars"), running_var);
    if (bias) check_channels(named("bias", "biases"), *bias);
    if (bn_weight) check_channels(named("bn_weight", "bn_weights"), *bn_weight);
    if (bn_bias) check_channels(named("bn_bias", "bn_biases"), *bn_bias);
    TORCH_CHECK(std::isfinite(eps) && eps >= 0, op, ": ", named("eps", "eps"), " must be finite and at least 0, got ",
                eps);
  }

 private:
  void check_channels(const Argument& name, const at::Tensor& vector) const {
    check_same_dtype(op, name, vector, named("weight", "weights"), weight);
    TORCH_CHECK(vector.dim() == 1 && vector.size(0) == weight.size(0), op, ": ", name,
                " must be [C_out] with C_out = ", weight.size(0), ", got ", vector.sizes());
  }
};

// The weight in a layout where the elements of one output channel lie together: channels last where it is that.
inline at::Tensor by_channels(const at::Tensor& weight) {
  const bool channels_last = !weight.is_contiguous() && weight.is_contiguous(at::MemoryFormat::ChannelsLast);
  return channels_last ? weight : weight.contiguous();
}

// The layers folded, of each backend; all arguments are checked.
FoldedLists fold_layers(at::ArrayRef<FuseLayer> layers);

inline Folded fuse_conv_bn(const at::Tensor& weight, const OptionalTensor& bias, const at::Tensor& running_mean,
                           const at::Tensor& running_var, const OptionalTensor& bn_weight,
                           const OptionalTensor& bn_bias, double eps) {
  const FuseLayer layer{"fuse_conv_bn", weight, bias, running_mean, running_var, bn_weight, bn_bias, eps};
  layer.check();
  const auto [weights, biases] = fold_layers(layer);
  return {weights[0], biases[0]};
}

// Lists beside the weights have as many entries.
inline void check_length(const char* op, const char* name, const char* what, size_t found, size_t wanted) {
  TORCH_CHECK(found == wanted, op, ": ", name, " must hold ", wanted, " ", what, ", one for each of weights, got ",
              found);
}

inline FoldedLists foreach_fuse_conv_bn(at::TensorList weights, const c10::List<OptionalTensor>& biases,
                                        at::TensorList running_means, at::TensorList running_vars,
                                        const c10::List<OptionalTensor>& bn_weights,
                                        const c10::List<OptionalTensor>& bn_biases, at::ArrayRef<double> eps) {
  constexpr const char* op = "foreach_fuse_conv_bn";
  check_length(op, "biases", "tensors", biases.size(), weights.size());
  check_length(op, "running_means", "tensors", running_means.size(), weights.size());
  check_length(op, "running_vars", "tensors", running_vars.size(), weights.size());
  check_length(op, "bn_weights", "tensors", bn_weights.size(), weights.size());
  check_length(op, "bn_biases", "tensors", bn_biases.size(), weights.size());
  check_length(op, "eps", "numbers", eps.size(), weights.size());
  std::vector<FuseLayer> layers;
  layers.reserve(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    layers.push_back({op, weights[i], biases.get(i), running_means[i], running_vars[i], bn_weights.get(i),
                      bn_biases.get(i), eps[i], static_cast<int64_t>(i)});
    layers[i].check();
    check_same_dtype(op, {"weight", "weights", layers[i].index}, weights[i], {"weight", "weights", 0}, weights[0]);
  }
  return fold_layers(layers);
}

// ---- a 1x1 convolution into the one before it ----

// A layer and the 1x1 convolution behind it.
struct AbsorbLayer {
  const char* op;
  at::Tensor weight;  // [C_out, C_in, ...]
  OptionalTensor bias;
  at::Tensor pointwise_weight;  // [C_new, C_out] or [C_new, C_out, 1, 1]
  OptionalTensor pointwise_bias;
  int64_t index = -1;  // in the lists, where it is one of several

  Argument named(const char* alone, const char* list) const { return {alone, list, index}; }

  void check() const {
    const Argument name = named("weight", "weights"), pointwise = named("pointwise_weight", "pointwise_weights");
    check_floating(op, name, weight);
    TORCH_CHECK(weight.dim() >= 2, op, ": ", name, " must be [C_out, C_in, ...], got ", weight.sizes());
    const int64_t channels = weight.size(0), rank = pointwise_weight.dim();
    const bool is_matrix = rank == 2 || (rank == 4 && pointwise_weight.size(2) == 1 && pointwise_weight.size(3) == 1);
    TORCH_CHECK(is_matrix && pointwise_weight.size(1) == channels, op, ": ", pointwise,
                " must be [C_new, C_out] or [C_new, C_out, 1, 1] with C_out = ", channels, ", got ",
                pointwise_weight.sizes());
    check_same_dtype(op, pointwise, pointwise_weight, name, weight);
    if (bias) check_vector(named("bias", "biases"), *bias, "C_out", channels);
    if (pointwise_bias) {
      check_vector(named("pointwise_bias", "pointwise_biases"), *pointwise_bias, "C_new", pointwise_weight.size(0));
    }
  }

 private:
  void check_vector(const Argument& name, const at::Tensor& vector, const char* what, int64_t size) const {
    check_same_dtype(op, name, vector, named("weight", "weights"), weight);
    TORCH_CHECK(vector.dim() == 1 && vector.size(0) == size, op, ": ", name, " must be [", what, "] with ", what, " = ",
                size, ", got ", vector.sizes());
  }
};

// A weight of other output channels in the layout of one that by_channels gave.
inline at::Tensor empty_with_channels(const at::Tensor& dense, int64_t channels) {
  std::vector<int64_t> sizes = dense.sizes().vec();
  sizes[0] = channels;
  const auto format = dense.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  return at::empty(sizes, dense.options().memory_format(format));
}

// Elements of one output channel.
inline int64_t inner_size(const at::Tensor& weight) { return c10::multiply_integers(weight.sizes().slice(1)); }

// The layers that have absorbed theirs, of each backend; all arguments are checked.
FoldedLists absorb_layers(at::ArrayRef<AbsorbLayer> layers);

inline Folded absorb_conv1x1(const at::Tensor& weight, const OptionalTensor& bias, const at::Tensor& pointwise_weight,
                             const OptionalTensor& pointwise_bias) {
  const AbsorbLayer layer{"absorb_conv1x1", weight, bias, pointwise_weight, pointwise_bias};
  layer.check();
  const auto [weights, biases] = absorb_layers(layer);
  return {weights[0], biases[0]};
}

inline FoldedLists foreach_absorb_conv1x1(at::TensorList weights, const c10::List<OptionalTensor>& biases,
                                          at::TensorList pointwise_weights,
                                          const c10::List<OptionalTensor>& pointwise_biases) {
  constexpr const char* op = "foreach_absorb_conv1x1";
  check_length(op, "biases", "tensors", biases.size(), weights.size());
  check_length(op, "pointwise_weights", "tensors", pointwise_weights.size(), weights.size());
  check_length(op, "pointwise_biases", "tensors", pointwise_biases.size(), weights.size());
  std::vector<AbsorbLayer> layers;
  layers.reserve(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    layers.push_back(
        {op, weights[i], biases.get(i), pointwise_weights[i], pointwise_biases.get(i), static_cast<int64_t>(i)});
    layers[i].check();
    check_same_dtype(op, {"weight", "weights", layers[i].index}, weights[i], {"weight", "weights", 0}, weights[0]);
  }
  return absorb_layers(layers);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
