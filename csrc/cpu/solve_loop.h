// The loop of an optimiser with a proximal operator behind every step, around any gradient, on the CPU.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <functional>

#include "cpu/step_kernels.h"
#include "solve.h"
#include "version_counter.h"

namespace fsc {

// Runs the steps; `differentiate` writes the gradient at the weight to a tensor of its shape and returns the loss.
template <typename scalar_t>
at::Tensor run(const Loop& loop, const std::function<double(int64_t, const at::Tensor&)>& differentiate) {
  const auto& [op, weight, state, mask, learning_rates, amounts, optimizer, penalty, dim, first_step] = loop;
  Parameter<scalar_t> parameter{
      weight.data_ptr<scalar_t>(), {nullptr, nullptr}, nullptr, groups_of(weight, check_dim(op, dim, weight))};
  for (size_t i = 0; i < state.size(); ++i) parameter.state[i] = state[i].data_ptr<scalar_t>();
  if (mask) parameter.mask = reinterpret_cast<uint8_t*>(mask->data_ptr<bool>());
  const at::Tensor grad = at::empty_like(weight);
  const at::Tensor losses = at::empty({loop.num_steps()}, weight.options().dtype(at::kDouble));
  const double* rate = learning_rates.const_data_ptr<double>();
  const double* amount = amounts.const_data_ptr<double>();
  for (int64_t t = 0; t < loop.num_steps(); ++t) {
    const int64_t number = first_step + t;
    losses.data_ptr<double>()[t] = differentiate(number, grad);
    step(parameter, grad.const_data_ptr<scalar_t>(), {optimizer, rate[t], number}, penalty, amount[t]);
  }
  mark_changed(weight);
  for (const at::Tensor& part : state) mark_changed(part);
  if (mask) mark_changed(*mask);
  return losses;
}

}  // namespace fsc
