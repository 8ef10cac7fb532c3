// A step of Adam or of gradient descent with the proximal operator behind it, on CUDA devices: the updates of all
// tensors of a list in one launch.
#include <ATen/core/Tensor.h>

#include <vector>

#include "cuda/dispatch.cuh"
#include "cuda/step_launch.cuh"
#include "step_operators.h"

namespace {

template <typename scalar_t>
fsc::StepMemory<scalar_t> memory_of(const fsc::StepWork& work, const fsc::Groups& groups) {
  auto* mask = reinterpret_cast<uint8_t*>(work.mask.data<bool>());
  return {{work.weight.data<scalar_t>(), work.grad.const_data_ptr<scalar_t>(), work.states[0].data<scalar_t>(),
           work.states[1].data<scalar_t>(), mask},
          groups};
}

template <typename scalar_t>
void run_on_device(const fsc::StepRule& rule, at::ArrayRef<fsc::Step> steps, const std::vector<fsc::StepWork>& works) {
  std::vector<fsc::StepMemory<scalar_t>> memories;
  std::vector<fsc::device::StepRow<scalar_t>> rows;
  for (size_t i = 0; i < steps.size(); ++i) {
    const at::Tensor& weight = steps[i].weight;
    memories.push_back(memory_of<scalar_t>(works[i], fsc::groups_of(weight, rule.group_dim(steps[i]))));
    memories[i].allocate(weight, rule.penalty);
    rows.push_back(fsc::row_of(memories[i], steps[i].amount));
  }
  const fsc::Update update(rule.optimizer, rule.lr, rule.number);
  using real_t = fsc::device::wide_t<scalar_t>;
  const fsc::device::StepScalars<real_t> scalars{fsc::formula_of<real_t>(rule.optimizer, rule.penalty), update.rate,
                                                 update.root, nullptr};
  const bool adam = rule.optimizer.adam;
  // A lone weight travels in a small table.
  rows.size() == 1 ? fsc::launch_updates<1, scalar_t>(rows, adam, scalars)
                   : fsc::launch_updates<fsc::device::kManyWeights, scalar_t>(rows, adam, scalars);
  std::vector<fsc::device::Amount> amounts;
  for (const fsc::Step& s : steps) amounts.push_back({s.amount, nullptr});
  fsc::launch_penalties<scalar_t>(memories, rule.penalty, amounts);
}

}  // namespace

void fsc::run_steps(const StepRule& rule, at::ArrayRef<Step> steps) {
  if (steps.empty()) return;
  const OnDeviceOf device(steps[0].weight);
  std::vector<StepWork> works;
  for (const Step& s : steps) works.emplace_back(s, rule.penalty);
  FSC_DISPATCH(steps[0].weight.scalar_type(), "step", [&] { run_on_device<scalar_t>(rule, steps, works); });
  for (const StepWork& work : works) work.finish();
}

FSC_CUDA_OPERATORS(m) {
  m.impl("adam_prox_", fsc::adam_prox_);
  m.impl("sgd_prox_", fsc::sgd_prox_);
  m.impl("foreach_adam_prox_", fsc::foreach_adam_prox_);
  m.impl("foreach_sgd_prox_", fsc::foreach_sgd_prox_);
}
