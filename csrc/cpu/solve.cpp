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
#include <memory>
#include <vector>

#include "cpu/cross_distill_kernels.h"
#include "cpu/solve_loop.h"
#include "cpu/winograd_step.h"
#include "solve_operators.h"

namespace {

using fsc::kBlock;
using fsc::kLanes;

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

// Turns the output into the weighted residual; images are independent, their losses are added in order.
template <typename scalar_t, bool kRelu>
double residual(const fsc::Images& batch, const at::Tensor& output) {
  const int64_t images = output.size(0), size = output.numel() / std::max<int64_t>(1, images);
  const scalar_t* share = batch.image_weight ? batch.image_weight->const_data_ptr<scalar_t>() : nullptr;
  std::vector<double> losses(images, 0.0);
  at::parallel_for(0, images, std::max<int64_t>(1, fsc::kProxGrain / std::max<int64_t>(1, size)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t n = begin; n < end; ++n) {
                       scalar_t* values = output.data_ptr<scalar_t>() + n * size;
                       const scalar_t* goal = batch.target.const_data_ptr<scalar_t>() + n * size;
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

// The summed loss at a weight; its gradient, without the factor 2, goes to `grad`.
template <typename scalar_t>
double differentiate(const fsc::Images& batch, const at::Tensor& weight, at::Tensor* grad) {
  const auto& [input, target, bias, shortcut, image_weight, relu, conv] = batch;
  at::Tensor output =
      at::convolution(input, weight, bias, conv.stride, conv.padding, conv.gaps(weight), false, {0, 0}, 1)
          .contiguous(at::MemoryFormat::ChannelsLast);  // [N, C_out, H_out, W_out]
  if (shortcut) output.add_(*shortcut);
  const double loss = relu ? residual<scalar_t, true>(batch, output) : residual<scalar_t, false>(batch, output);
  *grad = std::get<1>(at::convolution_backward(output, input, weight, std::nullopt, conv.stride, conv.padding,
                                               conv.gaps(weight), false, {0, 0}, 1, {false, true, false}))
              .contiguous();
  return loss;
}

}  // namespace

at::Tensor fsc::run_quadratic(const Loop& loop, const at::Tensor& hessian, const at::Tensor& target, double scale) {
  const at::Tensor& weight = loop.weight;
  const int64_t rows = target.size(0), columns = target.size(1);
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "solve_quadratic_", [&] {
    const scalar_t* w = weight.const_data_ptr<scalar_t>();
    const scalar_t* c = target.const_data_ptr<scalar_t>();
    return fsc::run<scalar_t>(loop, [&](int64_t, const at::Tensor& grad) {
      at::Tensor product = grad.view({rows, columns});
      at::mm_out(product, weight.view({rows, columns}), hessian);
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

at::Tensor fsc::run_images(const Loop& loop, const Images& all, int64_t size, double scale) {
  const at::Tensor& weight = loop.weight;
  const int64_t images = all.input.size(0);
  const int64_t batches = size == 0 ? 0 : (images + size - 1) / size;
  const bool by_winograd = winograd::Step::plan(all, weight).has_value();
  std::vector<std::unique_ptr<winograd::Step>> steps(batches);  // each made when its batch is met first
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "solve_relu_", [&] {
    return fsc::run<scalar_t>(loop, [&](int64_t number, const at::Tensor& grad) {
      const int64_t place = (number - 1) % batches, begin = place * size;
      const fsc::Images batch = all.batch(begin, std::min(size, images - begin));
      const double per_image = scale / static_cast<double>(batch.input.size(0));
      if (by_winograd) {
        if (!steps[place]) steps[place] = std::make_unique<winograd::Step>(batch, weight);
        return per_image * steps[place]->differentiate(weight, 2 * per_image, grad);
      }
      at::Tensor half;
      const double loss = per_image * differentiate<scalar_t>(batch, weight, &half);
      const scalar_t* source = half.const_data_ptr<scalar_t>();
      const auto factor = static_cast<scalar_t>(2 * per_image);
      std::transform(source, source + half.numel(), grad.data_ptr<scalar_t>(),
                     [factor](scalar_t g) { return factor * g; });
      return loss;
    });
  });
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("solve_quadratic_", fsc::solve_quadratic_);
  m.impl("solve_relu_", fsc::solve_relu_);
}
