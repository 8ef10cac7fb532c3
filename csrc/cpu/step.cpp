// A step of Adam or of gradient descent with the proximal operator behind it, on the CPU.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <vector>

#include "changed.h"
#include "cpu/step_kernels.h"
#include "step_operators.h"

void fsc::run_step(const Step& s, double lr, int64_t number) {
  const Penalty penalty = s.check(lr);
  const Groups groups = groups_of(s.weight, check_dim(s.op, s.dim, s.weight));
  const Changed weight(s.weight), mask = s.mask ? Changed(*s.mask) : Changed();
  std::vector<Changed> states(2);
  for (size_t i = 0; i < s.states.size(); ++i) states[i] = Changed(s.states[i]);
  const at::Tensor gradient = s.grad.contiguous();
  AT_DISPATCH_FLOATING_TYPES(s.weight.scalar_type(), "step", [&] {
    const Parameter<scalar_t> parameter{weight.data<scalar_t>(),
                                        {states[0].data<scalar_t>(), states[1].data<scalar_t>()},
                                        reinterpret_cast<uint8_t*>(mask.data<bool>()),
                                        groups};
    step(parameter, gradient.const_data_ptr<scalar_t>(), {s.optimizer, lr, number}, penalty, s.amount);
  });
  weight.finish();
  mask.finish();
  for (const Changed& state : states) state.finish();
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("adam_prox_", fsc::adam_prox_);
  m.impl("sgd_prox_", fsc::sgd_prox_);
}
