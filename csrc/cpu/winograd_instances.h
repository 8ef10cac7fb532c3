// All of Winograd's passes as one set of instructions has them. Included by the file of that set, below its pragma.
#pragma once

#include "cpu/winograd_passes.h"

namespace {

// Which of two instances serves.
template <typename Isa, typename Form>
struct Chosen {
  using Layer = winograd::Layer;
  using Panel = winograd::Panel;
  using Filters = winograd::Filters;

  static void of_weight(const Layer& layer, const Filters& filters, const float* from, float* u) {
    (filters.columns == 1 ? transform_weight<Isa, Form, 1> : transform_weight<Isa, Form, 2>)(layer, filters, from, u);
  }
  static void product(const Layer& layer, const Panel& panel, const Filters& filters, const float* v, const float* u,
                      float* m) {
    (filters.columns == 1 ? multiply<Isa, 1> : multiply<Isa, 2>)(layer, panel.rows, v, u, m);
  }
  static double epilogue(const Layer& layer, const Panel& panel, const Filters& filters,
                         const winograd::Epilogue& epilogue, float* m, float* squares) {
    const auto one = epilogue.relu ? residual<Isa, Form, 1, true> : residual<Isa, Form, 1, false>;
    const auto two = epilogue.relu ? residual<Isa, Form, 2, true> : residual<Isa, Form, 2, false>;
    return (filters.columns == 1 ? one : two)(layer, panel, epilogue, m, squares);
  }
  static void pixels(const Layer& layer, const Panel& panel, const Filters& filters, const float* m, const float* bias,
                     float* to) {
    (filters.columns == 1 ? outputs<Isa, Form, 1> : outputs<Isa, Form, 2>)(layer, panel, m, bias, to);
  }
  static void points(const Layer&, const Panel& panel, const Filters& filters, const float* residual, float* m,
                     float* squares) {
    (filters.columns == 1 ? spread<Isa, Form, 1> : spread<Isa, Form, 2>)(panel, residual, m, squares);
  }
  static void outer(const Layer& layer, const Panel& panel, const Filters& filters, const float* v, const float* m,
                    bool first, float* du) {
    (filters.columns == 1 ? accumulate<Isa, 1> : accumulate<Isa, 2>)(layer, panel.rows, v, m, first, du);
  }
  static void of_gradient(const Layer& layer, const Filters& filters, const float* du, int64_t parts,
                          const winograd::Rounding& rounding, float scale, float* grad) {
    const auto pass = filters.columns == 1 ? transform_gradient<Isa, Form, 1> : transform_gradient<Isa, Form, 2>;
    pass(layer, filters, du, parts, rounding, scale, grad);
  }

  static constexpr winograd::Passes passes{
      Isa::kLanes, Form::kTile, transform_input<Isa, Form>, of_weight, product, epilogue, pixels, points,
      outer,       of_gradient};
};

template <typename Isa>
constexpr winograd::Passes kBothSizes[] = {Chosen<Isa, Four>::passes, Chosen<Isa, Two>::passes};

}  // namespace
