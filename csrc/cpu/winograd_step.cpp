#include "cpu/winograd_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <vector>

namespace fsc::winograd {

namespace {

// Of the norm of a filter's outputs: more than what they are rounded by, which was seen to reach 3e-6.
constexpr double kRounding = 1e-5;

const float* data_or_none(const at::Tensor& tensor, int64_t offset) {
  return tensor.defined() ? tensor.const_data_ptr<float>() + offset : nullptr;
}

}  // namespace

std::optional<Plan> Step::plan(const Images& images, const at::Tensor& weight) {
  return Plan::of(images.input, weight, images.target.sizes(), images.conv, true);
}

Step::Step(const Images& images, const at::Tensor& weight)
    : plan_(*plan(images, weight)),
      relu_(images.relu),
      v_(plan_.transformed(images.input)),
      target_(in_order(images.target)),
      bias_(plan_.padded(images.bias)),
      arrived_(rounding_of(images, weight)),
      u_(at::empty({plan_.slots(), plan_.values(plan_.filters.front())}, at::kFloat)),
      m_(at::empty({at::get_num_threads(), plan_.layer.points() * (kPanel * plan_.widest() + kApart)}, at::kFloat)),
      sums_(plan_, images.input) {
  if (images.shortcut) shortcut_ = in_order(*images.shortcut);
  if (images.image_weight) share_ = *images.image_weight;
}

// [N, C_out, H_out, W_out], channels last, in the order in which the panels of the filters meet it.
at::Tensor Step::in_order(const at::Tensor& images) const {
  const int64_t values = plan_.layer.rows() * plan_.layer.pixels();
  const at::Tensor ordered = at::zeros({values * plan_.padded_filters()}, at::kFloat);
  for (const Filters& some : plan_.filters) {
    float* to = ordered.data_ptr<float>() + values * some.begin;
    at::parallel_for(0, plan_.panels.size(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Panel& panel = plan_.panels[i];
        plan_.gather(images.const_data_ptr<float>(), some, panel,
                     to + panel.begin * plan_.layer.pixels() * plan_.lanes(some));
      }
    });
  }
  return ordered;
}

// [F of all sets], squared norms of residuals that are no more than rounding: a share of what the outputs would be if
// pixels and channels were independent.
at::Tensor Step::rounding_of(const Images& images, const at::Tensor& weight) const {
  at::Tensor energies = images.input.square().sum({2, 3}).to(at::kDouble);  // [N, C_in]
  if (images.image_weight) energies = energies * images.image_weight->square().unsqueeze(1);
  const at::Tensor outputs = weight.square().sum({2, 3}).to(at::kDouble).mv(energies.sum(0));  // [C_out]
  const at::Tensor squares = outputs * (kRounding * kRounding);
  // A sum that overflowed says nothing of rounding.
  return plan_.padded(squares.masked_fill(squares.gt(std::numeric_limits<float>::max()), 0));
}

// A set of filters on a part of the panels: their loss, and the gradient at the points.
double Step::run(int64_t set, int64_t part, int64_t slot) {
  const Layer& layer = plan_.layer;
  const Filters& some = plan_.filters[set];
  float* m = m_[at::get_thread_num()].data_ptr<float>();
  double loss = 0;
  for (int64_t i = plan_.first(part); i < plan_.first(part + 1); ++i) {
    const Panel& panel = plan_.panels[i];
    const int64_t offset = layer.pixels() * (layer.rows() * some.begin + panel.begin * plan_.lanes(some));
    const Epilogue epilogue{target_.const_data_ptr<float>() + offset, data_or_none(shortcut_, offset),
                            data_or_none(bias_, some.begin), data_or_none(share_, 0), relu_};
    const float* u = u_.const_data_ptr<float>() + slot * u_.size(1);
    const float* v = plan_.panel_of(v_, panel);
    plan_.passes->multiply(layer, panel, some, v, u, m);
    loss += plan_.passes->residual(layer, panel, some, epilogue, m, sums_.squares(set, part));
    sums_.add(set, part, slot, i, v, m);
  }
  return loss;
}

double Step::differentiate(const at::Tensor& weight, double scale, const at::Tensor& grad) {
  std::vector<double> losses(plan_.filters.size() * plan_.parts);
  sums_.start();
  plan_.each(
      [&](int64_t set, int64_t slot) {
        float* u = u_.data_ptr<float>() + slot * u_.size(1);
        plan_.passes->transform_weight(plan_.layer, plan_.filters[set], weight.const_data_ptr<float>(), u);
      },
      [&](int64_t set, int64_t part, int64_t slot) { losses[set * plan_.parts + part] = run(set, part, slot); },
      [&](int64_t set, int64_t slot) {
        sums_.finish(set, slot, static_cast<float>(scale), arrived_.const_data_ptr<float>() + plan_.filters[set].begin,
                     grad.data_ptr<float>());
      });
  double total = 0;
  for (const double loss : losses) total += loss;
  return total;
}

}  // namespace fsc::winograd
