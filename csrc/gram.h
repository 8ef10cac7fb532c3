// The sides of a Gram matrix and the checks of gram_accumulate_, whatever the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>

#include "apart.h"
#include "check.h"
#include "version_counter.h"
#include "window.h"

namespace fsc {
inline namespace FSC_BACKEND {

using OptionalTensor = std::optional<at::Tensor>;

constexpr const char* kGramOp = "gram_accumulate_";

// One network's features, whose columns im2col would build.
struct GramSide {
  at::Tensor input;  // [N, C, H, W]
  Window window;
  OptionalTensor chosen;  // the channels that count, int64 [R], contiguous; all of them where there is none
  bool ones;              // a last row of ones, for the bias

  int64_t images() const { return input.size(0); }
  int64_t pixels() const { return window.height.outputs(input.size(2)) * window.width.outputs(input.size(3)); }
  int64_t channels() const { return chosen.has_value() ? chosen->numel() : input.size(1); }
  int64_t features() const { return channels() * window.taps(); }
  int64_t rows() const { return features() + (ones ? 1 : 0); }
};

// Pairs count height, then width.
inline Axis check_axis(size_t i, const std::array<at::IntArrayRef, 4>& pairs) {
  constexpr std::array<const char*, 4> names{"kernel_size", "stride", "padding", "dilation"};
  for (size_t p = 0; p < pairs.size(); ++p) {
    TORCH_CHECK(pairs[p].size() == 2, kGramOp, ": ", names[p], " must be one number or two, got ", pairs[p]);
    const int64_t least = p == 2 ? 0 : 1;
    TORCH_CHECK(pairs[p][i] >= least, kGramOp, ": ", names[p], " must be at least ", least, ", got ", pairs[p]);
    TORCH_CHECK(pairs[p][i] <= kMostPixels, kGramOp, ": ", names[p], " must be at most ", kMostPixels, ", got ",
                pairs[p]);
  }
  return {pairs[0][i], pairs[1][i], pairs[2][i], pairs[3][i]};
}

// Of `count` channels. On a device, values stay unread: that would wait for it.
inline OptionalTensor check_channels(const char* name, const OptionalTensor& channels, int64_t count) {
  if (!channels.has_value()) return std::nullopt;
  TORCH_CHECK(channels->scalar_type() == at::kLong, kGramOp, ": ", name, " must be int64, got ",
              channels->scalar_type());
  check_rank(kGramOp, name, *channels, 1, "[R]");
  const at::Tensor listed = channels->contiguous();
#if !defined(__CUDACC__) && !defined(FSC_EMULATE)
  for (int64_t i = 0; i < listed.numel(); ++i) {
    const int64_t channel = listed.const_data_ptr<int64_t>()[i];
    TORCH_CHECK(channel >= 0 && channel < count, kGramOp, ": ", name, " must be channels from 0 to ", count - 1,
                ", got ", channel);
  }
#endif
  return listed;
}

inline GramSide check_side(const char* name, const OptionalTensor& input, const Window& window,
                           const char* channels_name, const OptionalTensor& channels) {
  TORCH_CHECK(input.has_value(), kGramOp, ": ", name, " must be given where a Gram matrix needs it, got None");
  check_floating(kGramOp, name, *input);
  TORCH_CHECK(input->dim() == 4 || input->dim() == 2, kGramOp, ": ", name, " must be [N, C, H, W] or [N, C], got ",
              input->sizes());
  const at::Tensor images = input->dim() == 4 ? *input : input->unsqueeze(2).unsqueeze(3);
  const bool fits = window.height.outputs(images.size(2)) > 0 && window.width.outputs(images.size(3)) > 0;
  TORCH_CHECK(fits || images.numel() == 0, kGramOp, ": ", name, " must be as large as the kernel, got ",
              images.sizes());
  return {images, window, check_channels(channels_name, channels, images.size(1)), false};
}

// Whether the matrix has a row of ones more than the features; `rows` and `columns` count the features.
inline bool check_gram(const char* name, const at::Tensor& gram, int64_t rows, int64_t columns,
                       const at::Tensor& input) {
  check_floating(kGramOp, name, gram);
  // Devices take inputs in half precision, but no sums.
  TORCH_CHECK(gram.scalar_type() == at::kFloat || gram.scalar_type() == at::kDouble, kGramOp, ": ", name,
              " must be float32 or float64, got ", gram.scalar_type());
  TORCH_CHECK(gram.element_size() >= input.element_size(), kGramOp, ": ", name, " must be as wide as its input (",
              input.scalar_type(), "), got ", gram.scalar_type());
  const bool ones = gram.dim() == 2 && gram.size(0) == rows + 1 && gram.size(1) == columns + 1;
  const bool plain = gram.dim() == 2 && gram.size(0) == rows && gram.size(1) == columns;
  TORCH_CHECK(ones || plain, kGramOp, ": ", name, " must be [", rows, ", ", columns,
              "], or one more each for a row of ones, got ", gram.sizes());
  return ones;
}

inline void check_pair(const at::Tensor& student, const at::Tensor& teacher) {
  check_same_dtype(kGramOp, "student", student, "teacher", teacher);
  const bool same = student.size(0) == teacher.size(0) && student.sizes().slice(2) == teacher.sizes().slice(2);
  TORCH_CHECK(same, kGramOp, ": student must have the N, H and W of teacher ", teacher.sizes(), " for gram_cross, got ",
              student.sizes());
}

// One Gram matrix and the sides of its rows and columns, which are null where it is not asked for.
struct GramTarget {
  const char* name;
  const OptionalTensor& gram;
  const std::optional<GramSide>& rows;
  const std::optional<GramSide>& columns;
};

// Whether the Gram matrices have a row of ones: all of them or none.
inline bool check_grams(const std::array<GramTarget, 3>& targets) {
  std::optional<bool> ones;
  for (const GramTarget& target : targets) {
    if (!target.gram.has_value()) continue;
    const GramSide &rows = *target.rows, &columns = *target.columns;
    const bool here = check_gram(target.name, *target.gram, rows.features(), columns.features(), rows.input);
    TORCH_CHECK(ones.value_or(here) == here, kGramOp, ": ", target.name,
                " must have a row of ones if and only if the other Gram matrices have, got ", target.gram->sizes());
    ones = here;
  }
  TORCH_CHECK(ones.has_value(), kGramOp, ": gram_student, gram_cross or gram_teacher must be given, got none");
  return *ones;
}

// A sum that shares memory with another, or with what is summed, would have no defined value.
inline void check_apart(const std::array<GramTarget, 3>& targets,
                        std::initializer_list<std::pair<const char*, const OptionalTensor&>> read) {
  Apart apart(kGramOp);
  for (const GramTarget& target : targets) {
    if (target.gram.has_value()) apart.changes(*target.gram, target.name);
  }
  for (const auto& [name, tensor] : read) {
    if (tensor.has_value()) apart.reads(*tensor, name);
  }
  apart.check();
}

// The Gram matrices, contiguous and undefined where not asked for.
struct Grams {
  at::Tensor student, cross, teacher;
};

// Checks the arguments, then calls add(grams, student, teacher), which adds to the matrices in place.
// Its sides are null where no Gram matrix needs them.
template <typename Add>
void update_grams(const OptionalTensor& gram_student, const OptionalTensor& gram_cross,
                  const OptionalTensor& gram_teacher, const OptionalTensor& student, const OptionalTensor& teacher,
                  const std::array<at::IntArrayRef, 4>& pairs, const OptionalTensor& channels_student,
                  const OptionalTensor& channels_teacher, const Add& add) {
  const Window window{check_axis(0, pairs), check_axis(1, pairs)};
  const bool both = gram_cross.has_value();
  std::optional<GramSide> left, right;
  if (both || gram_teacher.has_value()) {
    left = check_side("teacher", teacher, window, "channels_teacher", channels_teacher);
  }
  if (both || gram_student.has_value()) {
    right = check_side("student", student, window, "channels_student", channels_student);
  }
  if (both) check_pair(right->input, left->input);
  const std::array<GramTarget, 3> targets{{{"gram_student", gram_student, right, right},
                                           {"gram_cross", gram_cross, left, right},
                                           {"gram_teacher", gram_teacher, left, left}}};
  const bool ones = check_grams(targets);
  for (auto* side : {&left, &right}) {
    if (side->has_value()) (*side)->ones = ones;
  }
  check_apart(targets, {{"student", student},
                        {"teacher", teacher},
                        {"channels_student", channels_student},
                        {"channels_teacher", channels_teacher}});
  std::array<at::Tensor, 3> sums;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].gram.has_value()) sums[i] = targets[i].gram->contiguous();
  }
  add(Grams{sums[0], sums[1], sums[2]}, right, left);
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!sums[i].defined()) continue;
    if (!sums[i].is_same(*targets[i].gram)) targets[i].gram->copy_(sums[i]);
    mark_changed(*targets[i].gram);
  }
}

}  // namespace FSC_BACKEND
}  // namespace fsc
