// A step of Adam or of gradient descent with the proximal operator behind it, on the CPU; lists one after another.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "cpu/step_kernels.h"
#include "step_operators.h"

void fsc::run_steps(const StepRule& rule, at::ArrayRef<Step> steps) {
  const Update update(rule.optimizer, rule.lr, rule.number);
  for (const Step& s : steps) {
    const StepWork work(s, rule.penalty);
    AT_DISPATCH_FLOATING_TYPES(s.weight.scalar_type(), "step", [&] {
      const Parameter<scalar_t> parameter{work.weight.data<scalar_t>(),
                                          {work.states[0].data<scalar_t>(), work.states[1].data<scalar_t>()},
                                          reinterpret_cast<uint8_t*>(work.mask.data<bool>()),
                                          groups_of(s.weight, rule.group_dim(s))};
      step(parameter, work.grad.const_data_ptr<scalar_t>(), update, rule.penalty, s.amount);
    });
    work.finish();
  }
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("adam_prox_", fsc::adam_prox_);
  m.impl("sgd_prox_", fsc::sgd_prox_);
  m.impl("foreach_adam_prox_", fsc::foreach_adam_prox_);
  m.impl("foreach_sgd_prox_", fsc::foreach_sgd_prox_);
}
