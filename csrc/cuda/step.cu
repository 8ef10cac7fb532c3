// A step of Adam or of gradient descent with the proximal operator behind it, on CUDA devices.
#include <ATen/core/Tensor.h>

#include <vector>

#include "changed.h"
#include "cuda/dispatch.cuh"
#include "cuda/step_launch.cuh"
#include "step_operators.h"

void fsc::run_step(const Step& s, double lr, int64_t number) {
  const Penalty penalty = s.check(lr);
  const OnDeviceOf device(s.weight);
  const Groups groups = groups_of(s.weight, check_dim(s.op, s.dim, s.weight));
  const Changed weight(s.weight), mask = s.mask ? Changed(*s.mask) : Changed();
  std::vector<Changed> states(2);
  for (size_t i = 0; i < s.states.size(); ++i) states[i] = Changed(s.states[i]);
  const at::Tensor gradient = s.grad.contiguous();
  FSC_DISPATCH(s.weight.scalar_type(), "step", [&] {
    auto* kept = reinterpret_cast<uint8_t*>(mask.data<bool>());
    StepMemory<scalar_t> memory{{weight.data<scalar_t>(), gradient.const_data_ptr<scalar_t>(),
                                 states[0].data<scalar_t>(), states[1].data<scalar_t>(), kept},
                                kept,
                                groups};
    memory.allocate(s.weight, penalty);
    launch_step(memory, s.optimizer.adam, penalty, scalars_of({s.optimizer, lr, number}, penalty, s.amount));
  });
  weight.finish();
  mask.finish();
  for (const Changed& state : states) state.finish();
}

FSC_CUDA_OPERATORS(m) {
  m.impl("adam_prox_", fsc::adam_prox_);
  m.impl("sgd_prox_", fsc::sgd_prox_);
}
