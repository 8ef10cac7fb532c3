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

// How a block reads groups.
enum class Access {
  kSingle,  // one group, element by element
  kWide,    // one group, 16 bytes at a time, of half precision 8
  kNarrow,  // neighbouring groups of a few elements a row together, as memory is read 32 bytes at a time
};

template <Access access>
constexpr int kGroupsTogether = access == Access::kNarrow ? 8 : 1;
template <typename scalar_t, Access access>
constexpr int kGroupWidth = access != Access::kWide      ? 1
                            : kVectorWidth<scalar_t> < 4 ? kVectorWidth<scalar_t>
                                                         : 4;

// A thread's way through its group, [outer, inner] of it, with no division on the way: `width` elements at a time of
// those that the threads of the group share in turns. The groups of a block follow `first`; a thread may have none.
template <int width, int together>
class GroupWalk {
 public:
  FSC_DEVICE GroupWalk(const Groups& groups, int64_t first)
      : group_(first + thread() % together), inner_(groups.inner), row_(groups.count * groups.inner) {
    // No thread is beyond the first row where that has more elements.
    constexpr int64_t many = 1 << 30;
    const int inner = static_cast<int>(inner_ < many ? (inner_ > 1 ? inner_ : 1) : many);
    const int begin = thread() / together * width, step = num_threads() / together * width;
    const int rows = begin / inner, step_rows = step / inner;
    exists_ = group_ < groups.count;
    left_ = exists_ ? groups.outer * groups.inner - begin : 0;
    column_ = begin - rows * inner;
    columns_ = step - step_rows * inner;
    offset_ = rows * row_ + group_ * inner_ + column_;
    step_ = step_rows * row_ + columns_;
  }

  FSC_DEVICE int64_t group() const { return group_; }
  // Whether the thread is the first of those that share a group.
  FSC_DEVICE bool begins() const { return thread() < together && exists_; }
  FSC_DEVICE bool inside() const { return left_ > 0; }
  FSC_DEVICE int64_t offset() const { return offset_; }

  FSC_DEVICE void next() {
    left_ -= num_threads() / together * width;
    offset_ += step_;
    column_ += columns_;
    if (column_ >= inner_) column_ -= inner_, offset_ += row_ - inner_;
  }

 private:
  int64_t group_;
  bool exists_;
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

// Loads of a thread in flight, and what they read at most, whichever way.
constexpr int kGroupLoads = 4;
template <typename scalar_t>
constexpr int kGroupRound = kGroupLoads * kGroupWidth<scalar_t, Access::kWide>;
// Of a block with one group, and at most: narrow groups have few blocks.
constexpr int kGroupThreads = 256, kMostGroupThreads = 512;
// What a block's sums of its groups take at most.
constexpr int kGroupSums = kMostGroupThreads / kWarp * kGroupsTogether<Access::kNarrow>;

// Where a block keeps what it has read of a group, behind the scratch of its sums: `slots` elements a thread, a
// multiple of a round. Every thread finds its own there.
template <typename scalar_t>
struct HeldGroup {
  int slots;

  FSC_DEVICE scalar_t& operator[](int n) const {
    return reinterpret_cast<scalar_t*>(shared<double>() + kGroupSums)[n * num_threads() + thread()];
  }
};

// Euclidean norm of a thread's group.
template <typename scalar_t, int width, int together>
FSC_DEVICE double group_norm(const scalar_t* weight, GroupWalk<width, together> walk, const HeldGroup<scalar_t>& held) {
  double sum = 0;
  for (int n = 0; walk.inside(); n += kGroupLoads * width) {
    scalar_t values[kGroupLoads][width];
    FSC_UNROLL
    for (int u = 0; u < kGroupLoads; ++u, walk.next()) {
      load<width>(weight + walk.offset(), walk.inside() ? width : 0, values[u]);
    }
    FSC_UNROLL
    for (int v = 0; v < kGroupLoads * width; ++v) {
      const scalar_t value = values[v / width][v % width];
      if (n < held.slots) held[n + v] = value;
      sum += square(value);
    }
  }
  return std::sqrt(block_sum<together>(sum, shared<double>()));
}

// Calls work(walk through a thread's group) for all groups that a block among `share` has.
template <typename scalar_t, Access access, typename Work>
FSC_DEVICE void each_group(const Groups& groups, const Share& share, const Work& work) {
  constexpr int together = kGroupsTogether<access>;
  for (int64_t g = share.block * together; g < groups.count; g += share.blocks * together) {
    work(GroupWalk<kGroupWidth<scalar_t, access>, together>(groups, g));
  }
}

template <typename scalar_t, typename Work>
FSC_DEVICE void each_group(const Groups& groups, Access access, const Share& share, const Work& work) {
  if (access == Access::kSingle) each_group<scalar_t, Access::kSingle>(groups, share, work);
  if (access == Access::kWide) each_group<scalar_t, Access::kWide>(groups, share, work);
  if (access == Access::kNarrow) each_group<scalar_t, Access::kNarrow>(groups, share, work);
}

template <typename scalar_t>
FSC_KERNEL(kMostGroupThreads)
group_norms_kernel(const scalar_t* weight, double* norms, Groups groups, Access access) {
  each_group<scalar_t>(groups, access, {block(), num_blocks()}, [&](const auto& walk) {
    const double norm = group_norm(weight, walk, HeldGroup<scalar_t>{0});
    if (walk.begins()) norms[walk.group()] = norm;
  });
}

// A weight whose groups shrink, among those of one launch.
template <typename scalar_t>
struct ShrinkRow {
  const scalar_t* weight;
  scalar_t* output;
  Groups groups;
  Access access;
  Amount by;
};

constexpr int kManyShrunk = 56;

template <typename scalar_t, int capacity>
using ShrinkTable = Table<ShrinkRow<scalar_t>, capacity>;
static_assert(sizeof(ShrinkTable<double, kManyShrunk>) + sizeof(HeldGroup<double>) <= kParameterBytes);

template <typename scalar_t, int width, int together>
FSC_DEVICE void shrink_group(const ShrinkRow<scalar_t>& row, GroupWalk<width, together> walk, double threshold,
                             const HeldGroup<scalar_t>& held) {
  using real_t = wide_t<scalar_t>;
  const double norm = group_norm(row.weight, walk, held);
  // Written so that a NaN norm gives a NaN scale and a zero norm gives zero.
  const auto scale = static_cast<real_t>(norm <= threshold ? 0.0 : 1.0 - threshold / norm);
  for (int n = 0; walk.inside(); n += width, walk.next()) {
    scalar_t values[width];
    if (n >= held.slots) load<width>(row.weight + walk.offset(), width, values);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      const scalar_t value = n < held.slots ? held[n + v] : values[v];
      values[v] = static_cast<scalar_t>(scale * static_cast<real_t>(value));
    }
    store<width>(row.output + walk.offset(), width, values);
  }
}

// Norm and block soft threshold of the groups of many weights.
template <typename scalar_t, int capacity>
FSC_KERNEL(kMostGroupThreads)
shrink_groups_kernel(ShrinkTable<scalar_t, capacity> table, HeldGroup<scalar_t> held) {
  const Place place = place_in(table);
  const ShrinkRow<scalar_t>& row = table.rows[place.row];
  const double threshold = row.by.get();
  if (threshold == kNothingGoes) return;  // in place
  each_group<scalar_t>(row.groups, row.access, place.share,
                       [&](const auto& walk) { shrink_group(row, walk, threshold, held); });
}

// What `stay` says of each group becomes true of its elements.
template <typename scalar_t>
FSC_KERNEL(kMostGroupThreads)
clear_groups_kernel(const uint8_t* stay, Groups groups, Access access, Kept<scalar_t> kept) {
  each_group<scalar_t>(groups, access, {block(), num_blocks()}, [&](auto walk) {
    if (!walk.inside()) return;
    const bool stays = stay[walk.group()];
    if (stays && !kept.keep) return;
    for (; walk.inside(); walk.next()) kept.write(walk.offset(), stays);
  });
}

}  // namespace device
}  // namespace fsc
