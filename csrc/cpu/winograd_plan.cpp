#include "cpu/winograd_plan.h"

#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string>

#include "cpu/channels_last.h"

namespace fsc::winograd {

namespace {

constexpr int64_t kTasks = 4;    // at least, for so many threads; not the number there is, which must not change bits
constexpr float kLeast = 1e-6f;  // rounding was seen to reach 3e-7
constexpr int64_t kMostBytes = int64_t{1} << 30;  // of transformed inputs

// As torch chooses its own kernels: ATEN_CPU_CAPABILITY speaks for both.
const Passes* instructions() {
  static const Passes* const chosen = [] {
    const std::string capability = at::get_cpu_capability();
    return capability == "AVX512" ? avx512 : capability == "AVX2" ? avx2 : nullptr;
  }();
  return chosen;
}

// The layer, in those tiles that take fewer multiplications.
Layer layer_of(const at::Tensor& input, at::IntArrayRef output, at::IntArrayRef padding) {
  const auto in_tiles = [&](int64_t tile) {
    return Layer{input.size(0), input.size(1), output[1],  input.size(2), input.size(3),
                 output[2],     output[3],     padding[0], padding[1],    tile};
  };
  const Layer two = in_tiles(2), four = in_tiles(4);
  return two.points() * two.rows() < four.points() * four.rows() ? two : four;
}

bool takes(const at::Tensor& weight, const ConvGeometry& conv) {
  const auto all = [](at::IntArrayRef pair, int64_t value) { return pair[0] == value && pair[1] == value; };
  return instructions() && weight.scalar_type() == at::kFloat && weight.size(2) == 3 && weight.size(3) == 3 &&
         all(conv.stride, 1) && all(conv.dilation, 1) && conv.groups == 1;
}

// Measured against at::convolution, on one thread.
bool pays(const Layer& layer, bool stays) {
  const int64_t bytes = layer.rows() * layer.points() * layer.blocks() * kChannels * sizeof(float);
  // Blocks of channels that are mostly empty, outputs smaller than a tile, and filters that meet few rows waste more
  // than is won.
  const int64_t least_channels = stays ? kChannels / 2 : kChannels, least_rows = stays ? 1 : 8;
  return layer.filters > 0 && layer.channels >= least_channels && layer.height * layer.width >= 4 &&
         layer.rows() >= least_rows && bytes <= kMostBytes;
}

}  // namespace

std::optional<Plan> Plan::of(const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef output,
                             const ConvGeometry& conv, bool stays) {
  if (!takes(weight, conv)) return {};
  Plan plan{layer_of(input, output, conv.padding), nullptr, {}, {}, 1};
  if (!pays(plan.layer, stays)) return {};
  plan.passes = &instructions()[plan.layer.tile == 2];
  const int64_t all = plan.layer.filters, widest = plan.widest();
  for (int64_t begin = 0; begin < all; begin += widest) {
    const int64_t count = std::min(widest, all - begin);
    plan.filters.push_back({begin, count, count <= plan.passes->lanes ? 1 : 2});
  }
  const int64_t rows = plan.layer.rows(), count = (rows + kPanel - 1) / kPanel;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * rows / count, end = (i + 1) * rows / count;
    plan.panels.push_back({begin, end - begin});
  }
  const auto sets = static_cast<int64_t>(plan.filters.size());
  plan.parts = std::min(count, (kTasks + sets - 1) / sets);
  return plan;
}

at::Tensor Plan::transformed(const at::Tensor& input) const {
  const at::Tensor v = at::empty({layer.rows() * layer.points() * channels()}, at::kFloat);
  at::parallel_for(0, panels.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      passes->transform_input(layer, panels[i], input.const_data_ptr<float>(),
                              v.data_ptr<float>() + panels[i].begin * layer.points() * channels());
    }
  });
  return v;
}

at::Tensor Plan::padded(const std::optional<at::Tensor>& bias) const {
  if (!bias) return {};
  const at::Tensor padded = at::zeros({padded_filters()}, at::kFloat);
  padded.narrow(0, 0, layer.filters).copy_(*bias);
  return padded;
}

// move(offset among images, offset in the panel) for every pixel.
template <typename Move>
void Plan::pixels(const Filters& some, const Panel& panel, const Move& move) const {
  const int64_t tile = layer.tile, wide = layer.tiles_wide(), size = lanes(some);
  for (int64_t row = 0; row < panel.rows; ++row) {
    const int64_t image = (panel.begin + row) / layer.tiles(), place = (panel.begin + row) % layer.tiles();
    const int64_t y = place / wide * tile, x = place % wide * tile;
    const int64_t high = std::min(tile, layer.height - y), across = std::min(tile, layer.width - x);
    for (int64_t i = 0; i < high; ++i) {
      for (int64_t j = 0; j < across; ++j) {
        move(((image * layer.height + y + i) * layer.width + x + j) * layer.filters + some.begin,
             (row * layer.pixels() + i * tile + j) * size);
      }
    }
  }
}

void Plan::gather(const float* images, const Filters& some, const Panel& panel, float* to) const {
  pixels(some, panel, [&](int64_t outside, int64_t inside) { std::copy_n(images + outside, some.count, to + inside); });
}

void Plan::scatter(const float* from, const Filters& some, const Panel& panel, float* images) const {
  pixels(some, panel,
         [&](int64_t outside, int64_t inside) { std::copy_n(from + inside, some.count, images + outside); });
}

GradientSums::GradientSums(const Plan& plan, const at::Tensor& input)
    : plan_(plan),
      norms_(channel_norms(input)),
      du_(at::empty({plan.slots(), plan.parts * plan.values(plan.filters.front())}, at::kFloat)) {}

void GradientSums::start() { squares_.assign(plan_.filters.size() * plan_.parts * plan_.widest(), 0); }

float* GradientSums::squares(int64_t set, int64_t part) {
  return &squares_[set * plan_.parts * plan_.widest() + part * plan_.lanes(plan_.filters[set])];
}

float* GradientSums::du(int64_t set, int64_t part, int64_t slot) {
  return du_.data_ptr<float>() + slot * du_.size(1) + part * plan_.values(plan_.filters[set]);
}

void GradientSums::add(int64_t set, int64_t part, int64_t slot, int64_t i, const float* v, const float* m) {
  const Panel& panel = plan_.panels[i];
  plan_.passes->accumulate(plan_.layer, panel, plan_.filters[set], v, m, i == plan_.first(part), du(set, part, slot));
}

void GradientSums::finish(int64_t set, int64_t slot, float scale, const float* arrived, float* grad) {
  const Rounding rounding{norms_.const_data_ptr<float>(), squares(set, 0), arrived, kLeast};
  plan_.passes->transform_gradient(plan_.layer, plan_.filters[set], du(set, 0, slot), plan_.parts, rounding, scale,
                                   grad);
}

}  // namespace fsc::winograd
