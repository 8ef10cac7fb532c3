// Soft thresholds and what is done by groups on the device; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/amount.cuh"
#include "cuda/reduce.cuh"
#include "cuda/table.cuh"
#include "cuda/vector.cuh"

namespace fsc {

// A contiguous weight seen as [outer, groups, inner]; group g is [:, g, :].
struct Groups {
  int64_t outer;
  int64_t count;
  int64_t inner;
};

namespace device {

constexpr int kPassThreads = 256;

// ---- single weights ----

template <typename real_t>
FSC_DEVICE real_t shrunk(real_t x, real_t threshold) {
  // x - x instead of 0, so that NaN stays NaN.
  return x > threshold ? x - threshold : (x < -threshold ? x + threshold : x - x);
}

// A threshold that became infinite would turn infinity into NaN.
template <typename real_t>
FSC_DEVICE real_t finite(double threshold) {
  constexpr auto most = static_cast<double>(std::numeric_limits<real_t>::max());
  return static_cast<real_t>(threshold < most ? threshold : most);
}

template <typename scalar_t, int width>
FSC_KERNEL(kPassThreads)
soft_threshold_kernel(const scalar_t* input, scalar_t* output, int64_t numel, Amount by) {
  using real_t = wide_t<scalar_t>;
  if (by.get() == kNothingGoes) return;  // in place
  const auto threshold = finite<real_t>(by.get());
  stride_over<width>(numel, [&](int64_t i, int count) {
    scalar_t values[width];
    load<width>(input + i, count, values);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      values[v] = static_cast<scalar_t>(shrunk(static_cast<real_t>(values[v]), threshold));
    }
    store<width>(output + i, count, values);
  });
}

// ---- groups ----

// A thread's way through a group, [outer, inner] of it: the elements thread(), thread() + num_threads() and so on, with
// no division on the way.
class GroupWalk {
 public:
  FSC_DEVICE GroupWalk(const Groups& groups, int64_t g)
      : left_(groups.outer * groups.inner - thread()), inner_(groups.inner), row_(groups.count * groups.inner) {
    // No thread is beyond the first row where that has more elements.
    constexpr int64_t many = 1 << 30;
    const int inner = static_cast<int>(inner_ < many ? (inner_ > 1 ? inner_ : 1) : many);
    const int rows = thread() / inner, step = num_threads() / inner;
    column_ = thread() - rows * inner;
    columns_ = num_threads() - step * inner;
    offset_ = rows * row_ + g * inner_ + column_;
    step_ = step * row_ + columns_;
  }

  FSC_DEVICE bool inside() const { return left_ > 0; }
  FSC_DEVICE int64_t offset() const { return offset_; }

  FSC_DEVICE void next() {
    left_ -= num_threads();
    offset_ += step_;
    column_ += columns_;
    if (column_ >= inner_) column_ -= inner_, offset_ += row_ - inner_;
  }

 private:
  int64_t left_;    // elements from this one to the end of the group
  int64_t inner_;   // in a row of the group
  int64_t row_;     // from one row of the group to the next
  int64_t offset_;  // in the weight
  int64_t step_;
  int64_t column_;  // in the row
  int columns_;
};

template <typename scalar_t>
FSC_DEVICE double square(scalar_t value) {
  return static_cast<double>(value) * static_cast<double>(value);
}

// Loads of a thread in flight.
constexpr int kGroupLoads = 4;

// Where a block keeps what it has read of a group, behind the scratch of its sums: `slots` elements a thread, a
// multiple of kGroupLoads. Every thread finds its own there.
template <typename scalar_t>
struct HeldGroup {
  int slots;

  FSC_DEVICE scalar_t& operator[](int n) const {
    return reinterpret_cast<scalar_t*>(shared<double>() + kPassThreads / kWarp)[n * num_threads() + thread()];
  }
};

// Euclidean norm of the group that a block works on.
template <typename scalar_t>
FSC_DEVICE double group_norm(const scalar_t* weight, GroupWalk walk, const HeldGroup<scalar_t>& held) {
  double sum = 0;
  for (int n = 0; walk.inside(); n += kGroupLoads) {
    scalar_t values[kGroupLoads];
    FSC_UNROLL
    for (int u = 0; u < kGroupLoads; ++u, walk.next()) {
      values[u] = walk.inside() ? weight[walk.offset()] : scalar_t(0);
    }
    FSC_UNROLL
    for (int u = 0; u < kGroupLoads; ++u) {
      if (n < held.slots) held[n + u] = values[u];
      sum += square(values[u]);
    }
  }
  return std::sqrt(block_sum(sum, shared<double>()));
}

// One block a group.
template <typename scalar_t>
FSC_KERNEL(kPassThreads)
group_norms_kernel(const scalar_t* weight, double* norms, Groups groups) {
  for (int64_t g = block(); g < groups.count; g += num_blocks()) {
    const double norm = group_norm(weight, GroupWalk(groups, g), HeldGroup<scalar_t>{0});
    if (thread() == 0) norms[g] = norm;
  }
}

// A weight whose groups shrink, among those of one launch.
template <typename scalar_t>
struct ShrinkRow {
  const scalar_t* weight;
  scalar_t* output;
  Groups groups;
  Amount by;
};

constexpr int kManyShrunk = 64;

template <typename scalar_t, int capacity>
using ShrinkTable = Table<ShrinkRow<scalar_t>, capacity>;
static_assert(sizeof(ShrinkTable<double, kManyShrunk>) + sizeof(HeldGroup<double>) <= kParameterBytes);

template <typename scalar_t>
FSC_DEVICE void shrink_group(const ShrinkRow<scalar_t>& row, int64_t g, double threshold,
                             const HeldGroup<scalar_t>& held) {
  using real_t = wide_t<scalar_t>;
  GroupWalk walk(row.groups, g);
  const double norm = group_norm(row.weight, walk, held);
  // Written so that a NaN norm gives a NaN scale and a zero norm gives zero.
  const auto scale = static_cast<real_t>(norm <= threshold ? 0.0 : 1.0 - threshold / norm);
  for (int n = 0; walk.inside(); ++n, walk.next()) {
    const scalar_t value = n < held.slots ? held[n] : row.weight[walk.offset()];
    row.output[walk.offset()] = static_cast<scalar_t>(scale * static_cast<real_t>(value));
  }
}

// Norm and block soft threshold of the groups of many weights, one block a group.
template <typename scalar_t, int capacity>
FSC_KERNEL(kPassThreads)
shrink_groups_kernel(ShrinkTable<scalar_t, capacity> table, HeldGroup<scalar_t> held) {
  const Place place = place_in(table);
  const ShrinkRow<scalar_t>& row = table.rows[place.row];
  const double threshold = row.by.get();
  if (threshold == kNothingGoes) return;  // in place
  for (int64_t g = place.share.block; g < row.groups.count; g += place.share.blocks) {
    shrink_group(row, g, threshold, held);
  }
}

// What `stay` says of each group becomes true of its elements, one block a group.
template <typename scalar_t>
FSC_KERNEL(kPassThreads)
clear_groups_kernel(const uint8_t* stay, Groups groups, Kept<scalar_t> kept) {
  for (int64_t g = block(); g < groups.count; g += num_blocks()) {
    const bool stays = stay[g];
    if (stays && !kept.keep) continue;
    for (GroupWalk walk(groups, g); walk.inside(); walk.next()) kept.write(walk.offset(), stays);
  }
}

}  // namespace device
}  // namespace fsc
