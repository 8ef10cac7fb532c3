#include "cpu/winograd_step.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <string>

namespace fsc::winograd {

namespace {

constexpr int64_t kPanel = 52;  // rows: four tiles of sums in registers, and their points in the second cache
constexpr int64_t kTasks = 4;   // at least, for so many threads; not the number there is, which must not change bits
constexpr float kLeast = 1e-6;  // rounding was seen to reach 3e-7
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
Layer layer_of(const Images& images, const at::Tensor& weight) {
  const at::Tensor &input = images.input, &target = images.target;
  const auto in_tiles = [&](int64_t tile) {
    return Layer{input.size(0),  input.size(1),  weight.size(0),         input.size(2),          input.size(3),
                 target.size(2), target.size(3), images.conv.padding[0], images.conv.padding[1], tile};
  };
  const Layer two = in_tiles(2), four = in_tiles(4);
  return two.points() * two.rows() < four.points() * four.rows() ? two : four;
}

std::vector<Filters> filters_of(int64_t count, int64_t lanes) {
  std::vector<Filters> all;
  for (int64_t begin = 0; begin < count; begin += 2 * lanes) {
    const int64_t here = std::min(2 * lanes, count - begin);
    all.push_back({begin, here, here <= lanes ? 1 : 2});
  }
  return all;
}

}  // namespace

bool Step::pays(const Images& images, const at::Tensor& weight) {
  const ConvGeometry& conv = images.conv;
  const auto all = [](at::IntArrayRef pair, int64_t value) { return pair[0] == value && pair[1] == value; };
  const bool takes = instructions() && weight.scalar_type() == at::kFloat && weight.size(2) == 3 &&
                     weight.size(3) == 3 && all(conv.stride, 1) && all(conv.dilation, 1);
  if (!takes) return false;
  const Layer layer = layer_of(images, weight);
  const int64_t bytes = layer.rows() * layer.points() * layer.blocks() * kChannels * sizeof(float);
  // Blocks of channels that are mostly empty, and outputs smaller than a tile, waste more than is won.
  return layer.channels >= kChannels / 2 && layer.height * layer.width >= 4 && bytes <= kMostBytes;
}

Step::Step(const Images& images, const at::Tensor& weight)
    : layer_(layer_of(images, weight)),
      passes_(instructions()[layer_.tile == 2]),
      filters_(filters_of(weight.size(0), passes_.lanes)),
      relu_(images.relu) {
  const int64_t rows = layer_.rows(), count = (rows + kPanel - 1) / kPanel;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * rows / count, end = (i + 1) * rows / count;
    panels_.push_back({begin, end - begin});
  }
  const auto blocks = static_cast<int64_t>(filters_.size());
  parts_ = std::min<int64_t>(count, (kTasks + blocks - 1) / blocks);
  const auto plain = weight.options().memory_format(std::nullopt);
  const int64_t channels = layer_.blocks() * kChannels;
  v_ = at::empty({rows * layer_.points() * channels}, plain);
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      passes_.transform_input(layer_, panels_[i], images.input.const_data_ptr<float>(),
                              v_.data_ptr<float>() + panels_[i].begin * layer_.points() * channels);
    }
  });
  const int64_t padded = filters_.back().begin + filters_.back().columns * passes_.lanes;
  target_ = at::zeros({rows * layer_.pixels() * padded}, plain);
  put_in_order(images.target, target_.data_ptr<float>());
  if (images.shortcut) {
    shortcut_ = at::zeros_like(target_);
    put_in_order(*images.shortcut, shortcut_.data_ptr<float>());
  }
  if (images.bias) {
    bias_ = at::zeros({padded}, plain);
    bias_.narrow(0, 0, layer_.filters).copy_(*images.bias);
  }
  if (images.image_weight) share_ = *images.image_weight;
  norms_ = at::linalg_vector_norm(images.input, 2, {0, 2, 3});
  const int64_t size = layer_.points() * (channels * 2 * passes_.lanes + kApart);
  const int64_t copies = parts_ == 1 ? at::get_num_threads() : blocks;
  u_ = at::empty({copies, size}, plain);
  du_ = at::empty({copies, parts_ * size}, plain);
  m_ = at::empty({at::get_num_threads(), layer_.points() * (kPanel * 2 * passes_.lanes + kApart)}, plain);
}

// [N, C_out, H_out, W_out], channels last, to the order in which the rows of the filters meet it.
void Step::put_in_order(const at::Tensor& images, float* to) const {
  const float* from = images.const_data_ptr<float>();
  const int64_t wide = layer_.tiles_wide();
  for (const Filters& filters : filters_) {
    const int64_t lanes = filters.columns * passes_.lanes;
    float* start = to + layer_.rows() * layer_.pixels() * filters.begin;
    at::parallel_for(0, layer_.rows(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t image = row % layer_.images, tile = row / layer_.images;
        for (int64_t pixel = 0; pixel < layer_.pixels(); ++pixel) {
          const int64_t y = tile / wide * layer_.tile + pixel / layer_.tile,
                        x = tile % wide * layer_.tile + pixel % layer_.tile;
          if (y >= layer_.height || x >= layer_.width) continue;
          const float* source = from + ((image * layer_.height + y) * layer_.width + x) * layer_.filters;
          std::copy_n(source + filters.begin, filters.count, start + (row * layer_.pixels() + pixel) * lanes);
        }
      }
    });
  }
}

// Some filters on a part of the panels: their loss, and the gradient at the points.
double Step::run(const Filters& filters, int64_t part, const float* u, float* du, float* m, float* squares) const {
  const auto count = static_cast<int64_t>(panels_.size());
  const int64_t first = part * count / parts_, last = (part + 1) * count / parts_;
  const int64_t lanes = filters.columns * passes_.lanes, channels = layer_.blocks() * kChannels;
  double loss = 0;
  for (int64_t i = first; i < last; ++i) {
    const Panel& panel = panels_[i];
    const float* v = v_.const_data_ptr<float>() + panel.begin * layer_.points() * channels;
    const int64_t offset = layer_.pixels() * (layer_.rows() * filters.begin + panel.begin * lanes);
    const Epilogue epilogue{target_.const_data_ptr<float>() + offset,
                            shortcut_.defined() ? shortcut_.const_data_ptr<float>() + offset : nullptr,
                            bias_.defined() ? bias_.const_data_ptr<float>() + filters.begin : nullptr,
                            share_.defined() ? share_.const_data_ptr<float>() : nullptr, relu_};
    passes_.multiply(layer_, panel, filters, v, u, m);
    loss += passes_.residual(layer_, panel, filters, epilogue, m, squares);
    passes_.accumulate(layer_, panel, filters, v, m, i == first, du);
  }
  return loss;
}

double Step::differentiate(const at::Tensor& weight, double scale, const at::Tensor& grad) {
  const float* w = weight.const_data_ptr<float>();
  float* g = grad.data_ptr<float>();
  const auto blocks = static_cast<int64_t>(filters_.size());
  const int64_t widest = 2 * passes_.lanes;
  std::vector<double> losses(blocks * parts_);
  std::vector<float> squares(blocks * parts_ * widest);  // of the residuals, the parts of some filters one by one
  const auto squares_of = [&](int64_t i, int64_t part) {
    return &squares[i * parts_ * widest + part * filters_[i].columns * passes_.lanes];
  };
  const auto u_of = [&](int64_t i) { return u_[i].data_ptr<float>(); };
  // The parts of some filters' gradient lie one behind the other.
  const auto du_of = [&](int64_t i, int64_t part, const Filters& filters) {
    const int64_t values = layer_.blocks() * kChannels * filters.columns * passes_.lanes + kApart;
    return du_[i].data_ptr<float>() + part * layer_.points() * values;
  };
  const auto m_here = [&] { return m_[at::get_thread_num()].data_ptr<float>(); };
  const auto each = [](int64_t count, const auto& task) {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) task(i);
    });
  };
  const auto rounding = [&](int64_t i) { return Rounding{norms_.const_data_ptr<float>(), squares_of(i, 0), kLeast}; };
  const auto factor = static_cast<float>(scale);
  if (parts_ == 1) {
    each(blocks, [&](int64_t i) {
      const int64_t thread = at::get_thread_num();
      passes_.transform_weight(layer_, filters_[i], w, u_of(thread));
      float* du = du_of(thread, 0, filters_[i]);
      losses[i] = run(filters_[i], 0, u_of(thread), du, m_here(), squares_of(i, 0));
      passes_.transform_gradient(layer_, filters_[i], du, 1, rounding(i), factor, g);
    });
  } else {
    each(blocks, [&](int64_t i) { passes_.transform_weight(layer_, filters_[i], w, u_of(i)); });
    each(blocks * parts_, [&](int64_t i) {
      const int64_t block = i / parts_, part = i % parts_;
      losses[i] = run(filters_[block], part, u_of(block), du_of(block, part, filters_[block]), m_here(),
                      squares_of(block, part));
    });
    each(blocks, [&](int64_t i) {
      passes_.transform_gradient(layer_, filters_[i], du_of(i, 0, filters_[i]), parts_, rounding(i), factor, g);
    });
  }
  double total = 0;
  for (const double loss : losses) total += loss;
  return total;
}

}  // namespace fsc::winograd
