// Optimal brain surgery on single weights: each row is a problem of its own, on its own copy of the
// inverse, which shrinks as weights go.
#include "elimination.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "cpu/clones.h"

namespace {

// weight -= ratio column: what the remaining weights take over.
FSC_CLONES void take_over(double* weight, const double* column, double ratio, int64_t count) {
  for (int64_t i = 0; i < count; ++i) weight[i] -= ratio * column[i];
}

// The lower triangle of inverse [count, stride] minus column column^T / pivot.
FSC_CLONES void update_lower(double* inverse, int64_t stride, const double* column, double pivot, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double share = column[i] / pivot;
    double* row = inverse + i * stride;
    for (int64_t j = 0; j <= i; ++j) row[j] -= share * column[j];
  }
}

// One row's weights and the lower triangle of its inverse; the slots that remain are the first ones.
struct Row {
  Row(const double* weight, const double* inverse, int64_t dim)
      : stride(dim),
        alive(dim),
        weight(weight, weight + dim),
        inverse(inverse, inverse + dim * dim),
        index(dim),
        column(dim) {
    std::iota(index.begin(), index.end(), 0);
  }

  double& at(int64_t i, int64_t j) { return i >= j ? inverse[i * stride + j] : inverse[j * stride + i]; }

  // The slot whose removal costs least, w^2 / H^-1_ii, among the removable; the first of equals.
  std::pair<int64_t, double> cheapest(int64_t removable) {
    std::pair<int64_t, double> best{-1, std::numeric_limits<double>::infinity()};
    for (int64_t i = 0; i < alive; ++i) {
      if (index[i] >= removable) continue;
      const double rise = weight[i] * weight[i] / at(i, i);
      if (best.first < 0 || rise < best.second || (rise == best.second && index[i] < index[best.first])) {
        best = {i, rise};
      }
    }
    return best;
  }

  void remove(int64_t slot) {
    const int64_t last = alive - 1;
    swap_slots(slot, last);
    for (int64_t i = 0; i < last; ++i) column[i] = at(last, i);
    const double pivot = at(last, last);
    take_over(weight.data(), column.data(), weight[last] / pivot, last);
    update_lower(inverse.data(), stride, column.data(), pivot, last);
    alive = last;
  }

  // Exchanges two slots, rows and columns alike.
  void swap_slots(int64_t a, int64_t b) {
    if (a == b) return;
    for (int64_t i = 0; i < alive; ++i) {
      if (i != a && i != b) std::swap(at(a, i), at(b, i));
    }
    std::swap(at(a, a), at(b, b));
    std::swap(weight[a], weight[b]);
    std::swap(index[a], index[b]);
  }

  int64_t stride;
  int64_t alive;
  std::vector<double> weight;
  std::vector<double> inverse;
  std::vector<int64_t> index;
  std::vector<double> column;
};

std::tuple<at::Tensor, at::Tensor> elimination_order_cpu(const at::Tensor& weight, const at::Tensor& inverse,
                                                         int64_t removable) {
  fsc::check_elimination("elimination_order", weight, inverse, removable);
  const int64_t rows = weight.size(0);
  const int64_t dim = weight.size(1);
  const at::Tensor start = weight.contiguous();
  const at::Tensor matrices = inverse.contiguous();
  at::Tensor order = at::empty({rows, removable}, weight.options().dtype(at::kLong));
  at::Tensor rises = at::empty({rows, removable}, weight.options());
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t matrix = matrices.size(0) == 1 ? 0 : r;
      Row row(start.const_data_ptr<double>() + r * dim, matrices.const_data_ptr<double>() + matrix * dim * dim, dim);
      for (int64_t step = 0; step < removable; ++step) {
        const auto [slot, rise] = row.cheapest(removable);
        order.data_ptr<int64_t>()[r * removable + step] = row.index[slot];
        rises.data_ptr<double>()[r * removable + step] = rise;
        row.remove(slot);
      }
    }
  });
  return {order, rises};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) { m.impl("elimination_order", elimination_order_cpu); }
