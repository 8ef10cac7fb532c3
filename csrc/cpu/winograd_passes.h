// The passes around the products at Winograd's points, and all of them as one set of instructions has them. Included
// by the file of that set, below its pragma.
#pragma once

#include <cstdint>

#include "cpu/winograd_products.h"
#include "cpu/winograd_transforms.h"

namespace {

// The tile and the image of a row.
struct Place {
  int64_t image, y, x;  // the first pixel of the output

  Place(const winograd::Layer& layer, int64_t row)
      : image(row / layer.tiles()),
        y(row % layer.tiles() / layer.tiles_wide() * layer.tile),
        x(row % layer.tiles() % layer.tiles_wide() * layer.tile) {}
};

// The channels of a pixel from `c` on, as many as there are.
template <typename Isa>
inline typename Isa::Vector channels_at(const float* pixel, int64_t c, int64_t channels) {
  if (c + Isa::kLanes <= channels) return Isa::load(pixel + c);
  float filled[Isa::kLanes] = {};
  for (int64_t i = c; i < channels; ++i) filled[i - c] = pixel[i];
  return Isa::load(filled);
}

template <typename Isa, typename Form>
void transform_input(const winograd::Layer& layer, const winograd::Panel& panel, const float* input, float* v) {
  using Vector = typename Isa::Vector;
  constexpr int kReach = Form::kReach, kPoints = Form::kPoints;
  for (int64_t row = 0; row < panel.rows; ++row) {
    const Place place(layer, panel.begin + row);
    const int64_t y0 = place.y - layer.padding_high, x0 = place.x - layer.padding_wide;
    const float* image = input + place.image * layer.input_height * layer.input_width * layer.channels;
    for (int64_t c = 0; c < layer.blocks() * kChannels; c += Isa::kLanes) {
      Vector x[kPoints], points[kPoints];
      for (int64_t i = 0; i < kReach; ++i) {
        for (int64_t j = 0; j < kReach; ++j) {
          const int64_t y = y0 + i, z = x0 + j;
          const bool inside = y >= 0 && y < layer.input_height && z >= 0 && z < layer.input_width;
          x[i * kReach + j] =
              inside ? channels_at<Isa>(image + (y * layer.input_width + z) * layer.channels, c, layer.channels)
                     : Vector{};
        }
      }
      both_sides<kReach, kReach>(x, points, Form::template input<Vector>);
      float* to = v + (c / kChannels * panel.rows + row) * kChannels + c % kChannels;
      for (int64_t p = 0; p < kPoints; ++p) Isa::store(to + p * layer.blocks() * panel.rows * kChannels, points[p]);
    }
  }
}

// The filters' values at one block of channels, [9 * kChannels, kFilters], the missing ones 0.
template <int kFilters>
inline void gather(const winograd::Layer& layer, const winograd::Filters& filters, int64_t block, const float* weight,
                   float* to) {
  const int64_t first = block * kChannels * 9;
  const int64_t count = (layer.channels * 9 < first + kChannels * 9 ? layer.channels * 9 - first : kChannels * 9);
  for (int64_t f = 0; f < kFilters; ++f) {
    const bool there = f < filters.count;
    const float* from = weight + (filters.begin + f) * layer.channels * 9 + first;
    for (int64_t k = 0; k < kChannels * 9; ++k) to[k * kFilters + f] = there && k < count ? from[k] : 0;
  }
}

template <typename Isa, typename Form, int kColumns>
void transform_weight(const winograd::Layer& layer, const winograd::Filters& filters, const float* weight, float* u) {
  using Vector = typename Isa::Vector;
  constexpr int kFilters = kColumns * Isa::kLanes, kReach = Form::kReach;
  const int64_t stride = layer.blocks() * kChannels * kFilters + kApart;
  float values[kChannels * 9 * kFilters];
  for (int64_t block = 0; block < layer.blocks(); ++block) {
    gather<kFilters>(layer, filters, block, weight, values);
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t f = 0; f < kFilters; f += Isa::kLanes) {
        Vector w[9], half[3][kReach], points[kReach];
        for (int k = 0; k < 9; ++k) w[k] = Isa::load(values + (c * 9 + k) * kFilters + f);
        for (int i = 0; i < 3; ++i) Form::filter(w + 3 * i, 1, half[i]);
        for (int j = 0; j < kReach; ++j) {
          Form::filter(&half[0][j], kReach, points);
          float* to = u + (block * kChannels + c) * kFilters + f + j * stride;
          for (int i = 0; i < kReach; ++i) Isa::store(to + i * kReach * stride, points[i]);
        }
      }
    }
  }
}

template <typename Isa, typename Form, int kColumns>
void transform_gradient(const winograd::Layer& layer, const winograd::Filters& filters, const float* du, int64_t parts,
                        const winograd::Rounding& rounding, float scale, float* grad) {
  using Vector = typename Isa::Vector;
  constexpr int kFilters = kColumns * Isa::kLanes, kReach = Form::kReach, kPoints = Form::kPoints;
  const int64_t stride = layer.blocks() * kChannels * kFilters + kApart;
  float values[kChannels * 9 * kFilters], norms[kFilters], scales[kFilters];
  for (int64_t f = 0; f < kFilters; ++f) {
    float squares = 0;
    for (int64_t part = 0; part < parts; ++part) squares += rounding.residuals[part * kFilters + f];
    // A sum that overflowed says nothing of rounding.
    norms[f] = __builtin_isinf(squares) ? 0 : rounding.least * __builtin_sqrtf(squares);
    scales[f] = rounding.arrived && squares <= rounding.arrived[f] ? 0 : scale;
  }
  for (int64_t block = 0; block < layer.blocks(); ++block) {
    for (int64_t c = 0; c < kChannels && block * kChannels + c < layer.channels; ++c) {
      for (int64_t f = 0; f < kFilters; f += Isa::kLanes) {
        const Vector least = rounding.channels[block * kChannels + c] * Isa::load(norms + f);
        Vector points[kPoints], half[kReach][3], w[3];
        for (int64_t p = 0; p < kPoints; ++p) {
          const float* from = du + p * stride + (block * kChannels + c) * kFilters + f;
          points[p] = Isa::load(from);
          for (int64_t part = 1; part < parts; ++part) points[p] += Isa::load(from + part * kPoints * stride);
        }
        for (int i = 0; i < kReach; ++i) Form::filter_gradient(points + i * kReach, 1, half[i]);
        for (int j = 0; j < 3; ++j) {
          Form::filter_gradient(&half[0][j], 3, w);
          for (int i = 0; i < 3; ++i) {
            // NaN stays NaN.
            const Vector kept = (w[i] <= least) & (-w[i] <= least) ? Vector{} : Isa::load(scales + f) * w[i];
            Isa::store(values + (c * 9 + i * 3 + j) * kFilters + f, kept);
          }
        }
      }
    }
    const int64_t first = block * kChannels * 9;
    for (int64_t f = 0; f < filters.count; ++f) {
      float* to = grad + (filters.begin + f) * layer.channels * 9;
      for (int64_t k = 0; k < kChannels * 9 && first + k < layer.channels * 9; ++k) {
        to[first + k] = values[k * kFilters + f];
      }
    }
  }
}

// The residual of one pixel, and its share of the loss added to `loss`.
template <typename Isa, bool kRelu>
inline typename Isa::Vector residual_of(typename Isa::Vector s, typename Isa::Vector target,
                                        typename Isa::Vector& loss) {
  using Vector = typename Isa::Vector;
  // Compared as x <= 0, so that NaN stays NaN.
  const Vector difference = (kRelu ? (s <= 0 ? Vector{} : s) : s) - target;
  loss = Isa::multiply_add(difference, difference, loss);
  return kRelu ? (s <= 0 ? Vector{} : difference) : difference;
}

template <typename Isa, typename Form, int kColumns, bool kRelu>
double residual(const winograd::Layer& layer, const winograd::Panel& panel, const winograd::Epilogue& epilogue,
                float* m, float* squares) {
  using Vector = typename Isa::Vector;
  constexpr int kReach = Form::kReach, kTile = Form::kTile, kPoints = Form::kPoints, kPixels = Form::kPixels;
  constexpr int64_t kFilters = kColumns * Isa::kLanes;
  const int64_t stride = panel.rows * kFilters + kApart;
  double total = 0;
  for (int64_t row = 0; row < panel.rows; ++row) {
    const Place place(layer, panel.begin + row);
    const float share = epilogue.share ? epilogue.share[place.image] : 1;
    for (int64_t f = 0; f < kFilters; f += Isa::kLanes) {
      Vector points[kPoints], pixels[kPixels], loss{}, norm = Isa::load(squares + f);
      float* at = m + row * kFilters + f;
      for (int64_t p = 0; p < kPoints; ++p) points[p] = Isa::load(at + p * stride);
      both_sides<kReach, kTile>(points, pixels, Form::template output<Vector>);
      const Vector bias = epilogue.bias ? Isa::load(epilogue.bias + f) : Vector{};
      for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
        const bool inside = place.y + pixel / kTile < layer.height && place.x + pixel % kTile < layer.width;
        const int64_t offset = (row * kPixels + pixel) * kFilters + f;
        Vector s = pixels[pixel] + bias;
        if (epilogue.shortcut) s += Isa::load(epilogue.shortcut + offset);
        pixels[pixel] =
            inside ? share * residual_of<Isa, kRelu>(s, Isa::load(epilogue.target + offset), loss) : Vector{};
        norm = Isa::multiply_add(pixels[pixel], pixels[pixel], norm);
      }
      Isa::store(squares + f, norm);
      both_sides<kTile, kReach>(pixels, points, Form::template output_gradient<Vector>);
      for (int64_t p = 0; p < kPoints; ++p) Isa::store(at + p * stride, points[p]);
      double sum = 0;
      for (int64_t lane = 0; lane < Isa::kLanes; ++lane) sum += loss[lane];
      total += share * sum;
    }
  }
  return total;
}

template <typename Isa, typename Form, int kColumns>
void outputs(const winograd::Layer& layer, const winograd::Panel& panel, const float* m, const float* bias, float* to) {
  using Vector = typename Isa::Vector;
  constexpr int kReach = Form::kReach, kTile = Form::kTile, kPoints = Form::kPoints, kPixels = Form::kPixels;
  constexpr int64_t kFilters = kColumns * Isa::kLanes;
  for (int64_t row = 0; row < panel.rows; ++row) {
    const Place place(layer, panel.begin + row);
    for (int64_t f = 0; f < kFilters; f += Isa::kLanes) {
      Vector points[kPoints], pixels[kPixels];
      const float* at = m + row * kFilters + f;
      for (int64_t p = 0; p < kPoints; ++p) points[p] = Isa::load(at + p * (panel.rows * kFilters + kApart));
      both_sides<kReach, kTile>(points, pixels, Form::template output<Vector>);
      const Vector constant = bias ? Isa::load(bias + f) : Vector{};
      for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
        const bool inside = place.y + pixel / kTile < layer.height && place.x + pixel % kTile < layer.width;
        Isa::store(to + (row * kPixels + pixel) * kFilters + f, inside ? pixels[pixel] + constant : Vector{});
      }
    }
  }
}

template <typename Isa, typename Form, int kColumns>
void spread(const winograd::Panel& panel, const float* residual, float* m, float* squares) {
  using Vector = typename Isa::Vector;
  constexpr int kReach = Form::kReach, kTile = Form::kTile, kPoints = Form::kPoints, kPixels = Form::kPixels;
  constexpr int64_t kFilters = kColumns * Isa::kLanes;
  for (int64_t row = 0; row < panel.rows; ++row) {
    for (int64_t f = 0; f < kFilters; f += Isa::kLanes) {
      Vector points[kPoints], pixels[kPixels], norm = Isa::load(squares + f);
      for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
        pixels[pixel] = Isa::load(residual + (row * kPixels + pixel) * kFilters + f);
        norm = Isa::multiply_add(pixels[pixel], pixels[pixel], norm);
      }
      Isa::store(squares + f, norm);
      both_sides<kTile, kReach>(pixels, points, Form::template output_gradient<Vector>);
      float* at = m + row * kFilters + f;
      for (int64_t p = 0; p < kPoints; ++p) Isa::store(at + p * (panel.rows * kFilters + kApart), points[p]);
    }
  }
}

}  // namespace
