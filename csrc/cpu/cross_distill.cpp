// The passes over memory of cross distillation on the CPU: the soft cross mixture before the convolutions and the
// residual epilogue after them.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "cpu/cross_distill_kernels.h"
#include "cpu/winograd_layer.h"
#include "cross_distill_operators.h"

namespace {

using fsc::kBlock;
constexpr int64_t kBlocksPerTask = 32;

int64_t block_count(int64_t numel) { return (numel + kBlock - 1) / kBlock; }

// The epilogue over whole tensors that share one dense layout; returns the loss before any division.
template <bool kRelu, bool kReluTarget>
double residual_and_loss(const at::Tensor& preactivation, const at::Tensor& target, const at::Tensor& residual) {
  const int64_t numel = preactivation.numel();
  std::vector<double> sums(block_count(numel), 0.0);
  AT_DISPATCH_FLOATING_TYPES(preactivation.scalar_type(), "distill_residual", [&] {
    const scalar_t* source = preactivation.const_data_ptr<scalar_t>();
    const scalar_t* goal = target.const_data_ptr<scalar_t>();
    scalar_t* destination = residual.data_ptr<scalar_t>();
    at::parallel_for(0, block_count(numel), kBlocksPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t b = block * kBlock;
        sums[block] = fsc::residual_block<scalar_t, kRelu, kReluTarget>(source + b, goal + b, destination + b,
                                                                        std::min(kBlock, numel - b));
      }
    });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

// A block of the inputs is read from memory once for both mixtures.
void fsc::mix(const at::Tensor& teacher, const at::Tensor& student, const at::Tensor& mixed_teacher,
              const at::Tensor& mixed_student, double alpha, double beta) {
  AT_DISPATCH_FLOATING_TYPES(teacher.scalar_type(), "soft_cross_mix", [&] {
    const scalar_t* from_teacher = teacher.const_data_ptr<scalar_t>();
    const scalar_t* from_student = student.const_data_ptr<scalar_t>();
    scalar_t* to_teacher = mixed_teacher.defined() ? mixed_teacher.data_ptr<scalar_t>() : nullptr;
    scalar_t* to_student = mixed_student.defined() ? mixed_student.data_ptr<scalar_t>() : nullptr;
    const int64_t numel = teacher.numel();
    at::parallel_for(0, block_count(numel), kBlocksPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin * kBlock; b < std::min(numel, end * kBlock); b += kBlock) {
        const int64_t count = std::min(kBlock, numel - b);
        if (to_teacher) {
          fsc::mix_block<scalar_t>(from_teacher + b, from_student + b, to_teacher + b, count, alpha, 1 - alpha);
        }
        if (to_student) {
          fsc::mix_block<scalar_t>(from_teacher + b, from_student + b, to_student + b, count, 1 - beta, beta);
        }
      }
    });
  });
}

at::Tensor fsc::residual_and_loss(const at::Tensor& preactivation, const at::Tensor& target, const at::Tensor& residual,
                                  bool relu, bool relu_target, double scale) {
  const auto pass = !relu ? ::residual_and_loss<false, false>
                          : (relu_target ? ::residual_and_loss<true, true> : ::residual_and_loss<true, false>);
  const double loss = scale * pass(preactivation, target, residual);
  at::Tensor scalar = at::empty({}, preactivation.options().memory_format(std::nullopt));
  AT_DISPATCH_FLOATING_TYPES(preactivation.scalar_type(), "distill_residual",
                             [&] { *scalar.data_ptr<scalar_t>() = static_cast<scalar_t>(loss); });
  return scalar;
}

std::tuple<at::Tensor, at::Tensor> fsc::layer_loss(const Layer& layer) {
  const auto own = winograd::layer_loss(layer);
  return own ? *own : convolved_loss(layer);
}

std::optional<at::Tensor> fsc::own_weight_gradient(const Layer& layer, const at::Tensor& residual,
                                                   const at::Tensor& grad_loss) {
  return winograd::weight_gradient(layer, residual, grad_loss);
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("soft_cross_mix", fsc::soft_cross_mix);
  m.impl("distill_residual", fsc::distill_residual);
  m.impl("cross_distill_layer", fsc::cross_distill_layer);
  m.impl("cross_distill_layer_backward", fsc::cross_distill_layer_backward);
}
