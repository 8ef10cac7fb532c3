// How a layer goes through Winograd's passes: tiles, panels, filters, and who works on what.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/winograd.h"
#include "cross_distill.h"

namespace fsc::winograd {

constexpr int64_t kPanel = 52;  // rows at most: four tiles of sums in registers, and their points in the second cache

struct Plan {
  Layer layer;
  const Passes* passes;
  std::vector<Filters> filters;
  std::vector<Panel> panels;
  int64_t parts;  // of the panels, each with sums of its own, added in order

  // For input and output of these shapes; none where at::convolution serves better, or the instructions lack. `stays`
  // where V is made once for many calls.
  static std::optional<Plan> of(const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef output,
                                const ConvGeometry& conv, bool stays);

  int64_t channels() const { return layer.blocks() * kChannels; }
  int64_t lanes(const Filters& some) const { return some.columns * passes->lanes; }
  int64_t widest() const { return 2 * passes->lanes; }
  int64_t padded_filters() const { return filters.back().begin + lanes(filters.back()); }
  // Values of U of some filters.
  int64_t values(const Filters& some) const { return layer.points() * (channels() * lanes(some) + kApart); }

  // Panels of a part, from the first to behind the last.
  int64_t first(int64_t part) const { return part * static_cast<int64_t>(panels.size()) / parts; }

  // Whether at::convolution would have more threads at work, by so much that it is faster all the same. Up to twice the
  // parts there are, bits do not depend on the number of threads; beyond, they are those of at::convolution.
  bool is_crowded() const {
    const int64_t sets = static_cast<int64_t>(filters.size());
    return at::get_num_threads() > 2 * (parts == 1 ? sets : parts);
  }

  // V of inputs [N, C_in, H, W], channels last, panel by panel.
  at::Tensor transformed(const at::Tensor& input) const;
  const float* panel_of(const at::Tensor& v, const Panel& panel) const {
    return v.const_data_ptr<float>() + panel.begin * layer.points() * channels();
  }

  // Bias [C_out] with zeros up to padded_filters(); undefined without.
  at::Tensor padded(const std::optional<at::Tensor>& bias) const;

  // Between values [N, C_out, H_out, W_out], channels last, and those of a panel [rows, pixels, F], whose values beyond
  // the map and the filters are left alone.
  void gather(const float* images, const Filters& some, const Panel& panel, float* to) const;
  void scatter(const float* from, const Filters& some, const Panel& panel, float* images) const;

  // How many sets of filters are under way at a time, each with memory of its own, and which a thread takes.
  int64_t slots() const { return parts == 1 ? at::get_num_threads() : static_cast<int64_t>(filters.size()); }

  // For each set of filters: begin(set, slot), run(set, part, slot) for each part, end(set, slot).
  template <typename Begin, typename Run, typename End>
  void each(const Begin& begin, const Run& run, const End& end) const;

 private:
  template <typename Move>
  void pixels(const Filters& some, const Panel& panel, const Move& move) const;
};

template <typename Begin, typename Run, typename End>
void Plan::each(const Begin& begin, const Run& run, const End& end) const {
  const auto all = [](int64_t count, const auto& task) {
    at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) task(i);
    });
  };
  const auto sets = static_cast<int64_t>(filters.size());
  if (parts == 1) {
    return all(sets, [&](int64_t i) {
      const int64_t slot = at::get_thread_num();
      begin(i, slot);
      run(i, 0, slot);
      end(i, slot);
    });
  }
  all(sets, [&](int64_t i) { begin(i, i); });
  all(sets * parts, [&](int64_t i) { run(i / parts, i % parts, i / parts); });
  all(sets, [&](int64_t i) { end(i, i); });
}

// The gradient at the points of all filters under way, and what is added up on the way to it.
class GradientSums {
 public:
  GradientSums(const Plan& plan, const at::Tensor& input);  // [N, C_in, H, W], channels last

  // To be called before the first panel of anything.
  void start();
  float* squares(int64_t set, int64_t part);
  // Adds panel `i`, whose V and dM are there.
  void add(int64_t set, int64_t part, int64_t slot, int64_t i, const float* v, const float* m);
  // `scale` times the gradient of a set, to grad [C_out, C_in, 3, 3]; see Rounding for `arrived`.
  void finish(int64_t set, int64_t slot, float scale, const float* arrived, float* grad);

 private:
  float* du(int64_t set, int64_t part, int64_t slot);

  const Plan& plan_;
  at::Tensor norms_;  // [C_in] of the channels
  at::Tensor du_;
  std::vector<float> squares_;  // of the residuals, the parts of a set one behind the other
};

}  // namespace fsc::winograd
