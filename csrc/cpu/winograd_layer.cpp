#include "cpu/winograd_layer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "cpu/channels_last.h"
#include "cpu/cross_distill_kernels.h"
#include "cpu/winograd_plan.h"

namespace fsc::winograd {

namespace {

// V of an input. Where the filters are few, all of them meet a panel while it is in the cache; otherwise V is whole.
struct Transformed {
  const Plan& plan;
  at::Tensor input;  // [N, C_in, H, W], channels last
  at::Tensor v;      // whole, or a panel for each thread

  Transformed(const Plan& p, const at::Tensor& x)
      : plan(p),
        input(channels_last(x)),
        v(p.parts == 1 ? p.transformed(input)
                       : at::empty({at::get_num_threads(), kPanel * p.layer.points() * p.channels()}, at::kFloat)) {}

  const float* panel(int64_t i) const {
    if (plan.parts == 1) return plan.panel_of(v, plan.panels[i]);
    float* here = v[at::get_thread_num()].data_ptr<float>();
    plan.passes->transform_input(plan.layer, plan.panels[i], input.const_data_ptr<float>(), here);
    return here;
  }
};

// The weight of the teacher or the student on its way through the passes.
struct Weight {
  const Plan& plan;
  at::Tensor weight, bias, u;

  Weight(const Plan& p, const at::Tensor& w, const std::optional<at::Tensor>& b)
      : plan(p),
        weight(w.contiguous()),
        bias(p.padded(b)),
        u(at::empty({p.slots(), p.values(p.filters.front())}, at::kFloat)) {}

  float* u_of(int64_t slot) const { return u.data_ptr<float>() + slot * u.size(1); }

  void transform(int64_t set, int64_t slot) const {
    plan.passes->transform_weight(plan.layer, plan.filters[set], weight.const_data_ptr<float>(), u_of(slot));
  }

  // Preactivations of a panel, [rows, pixels, F].
  void outputs(int64_t set, int64_t slot, const Panel& panel, const float* v, float* m, float* to) const {
    const Filters& some = plan.filters[set];
    plan.passes->multiply(plan.layer, panel, some, v, u_of(slot), m);
    const float* constant = bias.defined() ? bias.const_data_ptr<float>() + some.begin : nullptr;
    plan.passes->outputs(plan.layer, panel, some, m, constant, to);
  }
};

// Memory of a thread: the pixels of `maps` panels, and M.
struct Scratch {
  int64_t pixels;
  at::Tensor all;

  Scratch(const Plan& plan, int64_t maps)
      : pixels(kPanel * plan.layer.pixels() * plan.widest()),
        all(at::empty({at::get_num_threads(), maps * pixels + plan.layer.points() * (kPanel * plan.widest() + kApart)},
                      at::kFloat)) {}

  float* here(int64_t map) const { return all[at::get_thread_num()].data_ptr<float>() + map * pixels; }
};

// Turns the student's preactivations into residuals; returns the sum of squares.
double residual_of(float* student, const float* teacher, int64_t count, bool relu) {
  double loss = 0;
  for (int64_t b = 0; b < count; b += kBlock) {
    const auto block = relu ? residual_block<float, true, true> : residual_block<float, false, false>;
    loss += block(student + b, teacher + b, student + b, std::min(kBlock, count - b));
  }
  return loss;
}

// run(first set, behind the last, part, slot of a set less its number, panel): a panel with all sets where V is made
// panel by panel, and with one where U is made set by set.
template <typename Begin, typename Run, typename End>
void each_panel(const Plan& plan, const Begin& begin, const Run& run, const End& end) {
  const auto sets = static_cast<int64_t>(plan.filters.size());
  const auto part_of = [&](int64_t part, int64_t first_set, int64_t last_set, int64_t slot) {
    for (int64_t i = plan.first(part); i < plan.first(part + 1); ++i) run(first_set, last_set, part, slot, i);
  };
  if (plan.parts == 1) {
    plan.each(begin, [&](int64_t set, int64_t part, int64_t slot) { part_of(part, set, set + 1, slot - set); }, end);
    return;
  }
  for (int64_t set = 0; set < sets; ++set) begin(set, set);
  at::parallel_for(0, plan.parts, 1, [&](int64_t from, int64_t to) {
    for (int64_t part = from; part < to; ++part) part_of(part, 0, sets, 0);
  });
  for (int64_t set = 0; set < sets; ++set) end(set, set);
}

}  // namespace

std::optional<std::tuple<at::Tensor, at::Tensor>> layer_loss(const fsc::Layer& layer) {
  const at::Tensor& input = layer.input_student;
  const auto shape = layer.check();
  const auto plan = Plan::of(input, layer.weight_student, shape, layer.conv, false);
  if (!plan || plan->is_crowded()) return {};
  const auto [x_teacher, x_student] = layer.mixed_inputs();
  const bool same = x_teacher.is_same(x_student);
  const Transformed inputs(*plan, x_student);
  const std::optional<Transformed> others = same ? std::nullopt : std::optional<Transformed>({*plan, x_teacher});
  const Weight teacher(*plan, layer.weight_teacher, layer.bias_teacher);
  const Weight student(*plan, layer.weight_student, layer.bias_student);
  const at::Tensor residual = at::empty(shape, input.options().memory_format(at::MemoryFormat::ChannelsLast));
  const Scratch scratch(*plan, 2);
  const auto sets = static_cast<int64_t>(plan->filters.size()), panels = static_cast<int64_t>(plan->panels.size());
  std::vector<double> losses(sets * panels);
  each_panel(
      *plan,
      [&](int64_t set, int64_t slot) {
        teacher.transform(set, slot);
        student.transform(set, slot);
      },
      [&](int64_t first, int64_t last, int64_t, int64_t shift, int64_t i) {
        const Panel& panel = plan->panels[i];
        const float *v = inputs.panel(i), *v_teacher = others ? others->panel(i) : v;
        float *target = scratch.here(0), *output = scratch.here(1), *m = scratch.here(2);
        for (int64_t set = first; set < last; ++set) {
          const Filters& some = plan->filters[set];
          teacher.outputs(set, set + shift, panel, v_teacher, m, target);
          student.outputs(set, set + shift, panel, v, m, output);
          losses[set * panels + i] =
              residual_of(output, target, panel.rows * plan->layer.pixels() * plan->lanes(some), layer.relu());
          plan->scatter(output, some, panel, residual.data_ptr<float>());
        }
      },
      [](int64_t, int64_t) {});
  double total = 0;
  for (const double loss : losses) total += loss;
  const bool turned = input.suggest_memory_format() == at::MemoryFormat::Contiguous;
  return std::tuple{at::scalar_tensor(layer.per_image() * total, input.options().memory_format(std::nullopt)),
                    turned ? channels_first(residual) : residual};
}

std::optional<at::Tensor> weight_gradient(const fsc::Layer& layer, const at::Tensor& residual,
                                          const at::Tensor& grad_loss) {
  const auto plan = Plan::of(layer.input_student, layer.weight_student, residual.sizes(), layer.conv, false);
  if (!plan || plan->is_crowded()) return {};
  const Transformed inputs(*plan, std::get<1>(layer.mixed_inputs(false, true)));
  const at::Tensor images = channels_last(residual), grad = at::empty(layer.weight_student.sizes(), at::kFloat);
  const Scratch scratch(*plan, 1);
  const auto scale = static_cast<float>(2 * layer.per_image() * grad_loss.item<double>());
  GradientSums sums(*plan, inputs.input);
  sums.start();
  each_panel(
      *plan, [](int64_t, int64_t) {},
      [&](int64_t first, int64_t last, int64_t part, int64_t shift, int64_t i) {
        const Panel& panel = plan->panels[i];
        const float* v = inputs.panel(i);
        float *pixels = scratch.here(0), *m = scratch.here(1);
        for (int64_t set = first; set < last; ++set) {
          const Filters& some = plan->filters[set];
          std::fill_n(pixels, panel.rows * plan->layer.pixels() * plan->lanes(some), 0.0f);
          plan->gather(images.const_data_ptr<float>(), some, panel, pixels);
          plan->passes->spread(plan->layer, panel, some, pixels, m, sums.squares(set, part));
          sums.add(set, part, set + shift, i, v, m);
        }
      },
      [&](int64_t set, int64_t slot) { sums.finish(set, slot, scale, nullptr, grad.data_ptr<float>()); });
  return grad;
}

}  // namespace fsc::winograd
