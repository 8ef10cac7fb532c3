// The loops of an optimiser with a proximal operator behind every step, on the CPU: on the moments of a
// layer, and on its cached inputs and targets.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu/cross_distill_kernels.h"
#include "cpu/solve_loop.h"
#include "cross_distill.h"
#include "step.h"

namespace {

using fsc::kBlock;
using fsc::kLanes;

// ---- on moments ----

// With P = W H in `product`: returns the sum of W (P - 2 C) over a block and turns P into P - C, times `scale`.
template <typename scalar_t>
FSC_CLONES double quadratic_block(const scalar_t* weight, const scalar_t* target, scalar_t* product, int64_t count,
                                  scalar_t scale) {
  scalar_t terms[kBlock];
  for (int64_t i = 0; i < count; ++i) {
    const scalar_t p = product[i], c = target[i];
    terms[i] = weight[i] * (p - 2 * c);
    product[i] = scale * (p - c);
  }
  for (int64_t i = count; i % kLanes != 0; ++i) terms[i] = 0;
  double sums[kLanes] = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += terms[i + lane];
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

at::Tensor solve_quadratic_cpu_(at::Tensor& weight, at::TensorList state, const std::optional<at::Tensor>& mask,
                                const at::Tensor& hessian, const at::Tensor& target, const at::Tensor& learning_rates,
                                const at::Tensor& amounts, double scale, bool adam, at::ArrayRef<double> coefficients,
                                std::string_view penalty, int64_t dim, int64_t first_step) {
  constexpr const char* op = "solve_quadratic_";
  const fsc::Loop loop{op,
                       weight,
                       state,
                       mask,
                       learning_rates,
                       amounts,
                       fsc::optimizer_of(op, adam, coefficients),
                       fsc::penalty_of(op, penalty),
                       dim,
                       first_step};
  loop.check();
  const int64_t rows = weight.size(0), columns = c10::multiply_integers(weight.sizes().slice(1));
  fsc::check_same_dtype(op, "hessian", hessian, "weight", weight);
  fsc::check_same_dtype(op, "target", target, "weight", weight);
  TORCH_CHECK(hessian.dim() == 2 && hessian.size(0) == columns && hessian.size(1) == columns, op, ": hessian must be [",
              columns, ", ", columns, "], got ", hessian.sizes());
  TORCH_CHECK(target.dim() == 2 && target.size(0) == rows && target.size(1) == columns, op, ": target must be [", rows,
              ", ", columns, "], got ", target.sizes());
  const at::Tensor matrix = weight.view({rows, columns});
  const at::Tensor goal = target.contiguous();
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), op, [&] {
    const scalar_t* w = weight.const_data_ptr<scalar_t>();
    const scalar_t* c = goal.const_data_ptr<scalar_t>();
    return loop.run<scalar_t>([&](int64_t, const at::Tensor& grad) {
      at::Tensor product = grad.view({rows, columns});
      at::mm_out(product, matrix, hessian);
      scalar_t* p = product.data_ptr<scalar_t>();
      double loss = 0;
      for (int64_t b = 0; b < weight.numel(); b += kBlock) {
        const int64_t count = std::min(kBlock, weight.numel() - b);
        loss += quadratic_block(w + b, c + b, p + b, count, static_cast<scalar_t>(2 * scale));
      }
      return scale * loss;
    });
  });
}

// ---- on inputs and targets ----

// One layer on cached inputs and activated targets, channels last: the layout in which convolutions are fastest.
struct Images {
  at::Tensor input;                        // [N, C_in, H, W]
  at::Tensor target;                       // [N, C_out, H_out, W_out]
  std::optional<at::Tensor> bias;          // [C_out]
  std::optional<at::Tensor> shortcut;      // [N, C_out, H_out, W_out]
  std::optional<at::Tensor> image_weight;  // [N]
  bool relu;
  fsc::ConvGeometry conv;

  void check(const char* op, const at::Tensor& weight) const {
    fsc::check_same_dtype(op, "input", input, "weight", weight);
    fsc::check_rank(op, "input", input, 4, "[N, C_in, H, W]");
    fsc::check_geometry(op, conv, input);
    const auto shape = fsc::check_side(op, "", conv, input, weight, bias);
    for (const auto& [name, tensor] : {std::pair{"target", std::optional(target)}, std::pair{"shortcut", shortcut}}) {
      if (!tensor) continue;
      fsc::check_same_dtype(op, name, *tensor, "weight", weight);
      TORCH_CHECK(tensor->sizes() == at::IntArrayRef(shape), op, ": ", name, " must have the layer's output shape ",
                  at::IntArrayRef(shape), ", got ", tensor->sizes());
    }
    if (!image_weight) return;
    fsc::check_same_dtype(op, "image_weight", *image_weight, "weight", weight);
    TORCH_CHECK(image_weight->dim() == 1 && image_weight->size(0) == input.size(0), op, ": image_weight must be [",
                input.size(0), "], got ", image_weight->sizes());
  }

  Images batch(int64_t begin, int64_t count) const {
    const auto part = [&](const std::optional<at::Tensor>& tensor) {
      return tensor ? std::optional(tensor->narrow(0, begin, count)) : std::nullopt;
    };
    return {*part(input), *part(target), bias, part(shortcut), part(image_weight), relu, conv};
  }

  // The summed loss at a weight; its gradient, without the factor 2, goes to `grad`.
  template <typename scalar_t>
  double differentiate(const at::Tensor& weight, at::Tensor* grad) const {
    at::Tensor output = at::convolution(input, weight, bias, conv.stride, conv.padding, conv.dilation, false, {0, 0}, 1)
                            .contiguous(at::MemoryFormat::ChannelsLast);  // [N, C_out, H_out, W_out]
    if (shortcut) output.add_(*shortcut);
    const double loss = relu ? residual<scalar_t, true>(output) : residual<scalar_t, false>(output);
    *grad = std::get<1>(at::convolution_backward(output, input, weight, std::nullopt, conv.stride, conv.padding,
                                                 conv.dilation, false, {0, 0}, 1, {false, true, false}))
                .contiguous();
    return loss;
  }

 private:
  // Turns the output into the weighted residual; images are independent, their losses are added in order.
  template <typename scalar_t, bool kRelu>
  double residual(const at::Tensor& output) const {
    const int64_t images = output.size(0), size = output.numel() / std::max<int64_t>(1, images);
    const scalar_t* share = image_weight ? image_weight->const_data_ptr<scalar_t>() : nullptr;
    std::vector<double> losses(images, 0.0);
    at::parallel_for(0, images, std::max<int64_t>(1, fsc::kProxGrain / std::max<int64_t>(1, size)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t n = begin; n < end; ++n) {
                         scalar_t* values = output.data_ptr<scalar_t>() + n * size;
                         const scalar_t* goal = target.const_data_ptr<scalar_t>() + n * size;
                         for (int64_t b = 0; b < size; b += kBlock) {
                           losses[n] += fsc::residual_block<scalar_t, kRelu, false>(values + b, goal + b, values + b,
                                                                                    std::min(kBlock, size - b));
                         }
                         if (!share) continue;
                         losses[n] *= share[n];
                         for (int64_t i = 0; i < size; ++i) values[i] *= share[n];
                       }
                     });
    double total = 0;
    for (const double loss : losses) total += loss;
    return total;
  }
};

at::Tensor solve_relu_cpu_(at::Tensor& weight, at::TensorList state, const std::optional<at::Tensor>& mask,
                           const at::Tensor& input, const at::Tensor& target, const std::optional<at::Tensor>& bias,
                           const std::optional<at::Tensor>& shortcut, const std::optional<at::Tensor>& image_weight,
                           const at::Tensor& learning_rates, const at::Tensor& amounts, double scale,
                           std::string_view activation, at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, int64_t batch_size, bool adam, at::ArrayRef<double> coefficients,
                           std::string_view penalty, int64_t dim, int64_t first_step) {
  constexpr const char* op = "solve_relu_";
  const fsc::Loop loop{op,
                       weight,
                       state,
                       mask,
                       learning_rates,
                       amounts,
                       fsc::optimizer_of(op, adam, coefficients),
                       fsc::penalty_of(op, penalty),
                       dim,
                       first_step};
  loop.check();
  const auto by_pixels = [](const at::Tensor& tensor) {
    return tensor.dim() == 4 ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor;
  };
  const Images all{by_pixels(input),
                   by_pixels(target),
                   bias,
                   shortcut ? std::optional(by_pixels(*shortcut)) : std::nullopt,
                   image_weight ? std::optional(image_weight->contiguous()) : std::nullopt,
                   fsc::check_activation(op, activation),
                   {stride, padding, dilation, 1}};
  all.check(op, weight);
  TORCH_CHECK(batch_size >= 0, op, ": batch_size must be at least 0, got ", batch_size);
  const int64_t images = input.size(0), size = batch_size == 0 ? images : std::min(batch_size, images);
  TORCH_CHECK(images >= 1 || loop.num_steps() == 0, op, ": input must hold at least one image, got ", input.sizes());
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), op, [&] {
    return loop.run<scalar_t>([&](int64_t number, const at::Tensor& grad) {
      const int64_t begin = (number - 1) % ((images + size - 1) / size) * size;
      const Images batch = all.batch(begin, std::min(size, images - begin));
      at::Tensor half;
      const double per_image = scale / static_cast<double>(batch.input.size(0));
      const double loss = per_image * batch.differentiate<scalar_t>(weight, &half);
      const scalar_t* source = half.const_data_ptr<scalar_t>();
      const auto factor = static_cast<scalar_t>(2 * per_image);
      std::transform(source, source + half.numel(), grad.data_ptr<scalar_t>(),
                     [factor](scalar_t g) { return factor * g; });
      return loss;
    });
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("solve_quadratic_", solve_quadratic_cpu_);
  m.impl("solve_relu_", solve_relu_cpu_);
}
