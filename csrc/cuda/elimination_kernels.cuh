// Optimal brain surgery on the device, one block a row of weights, on its own copy of the inverse; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/reduce.cuh"

namespace fsc {

// Only the first `removable` weights of a row can go, and what remains of the others decides nothing: `size` is
// their number, and the copies hold no more than those.
struct Elimination {
  const double* weight;   // [rows, dim]
  const double* inverse;  // [rows or 1, dim, dim]
  bool shared_inverse;
  int64_t rows;
  int64_t dim;
  int64_t size;
  double* matrices;  // [blocks, size, size], their lower triangles
  double* vectors;   // [blocks, 2, size]
  int64_t* indices;  // [blocks, size]
  int64_t* order;    // [rows, size]
  double* rises;     // [rows, size]
};

namespace device {

constexpr int kEliminationThreads = 512;

// What is left of a row; the slots that remain are the first ones.
struct Remaining {
  double* matrix;  // [size, size], the lower triangle
  double* weight;
  double* column;
  int64_t* index;  // where a slot's weight was at first
  int64_t size;

  FSC_DEVICE double& at(int64_t i, int64_t j) const { return i >= j ? matrix[i * size + j] : matrix[j * size + i]; }
};

struct Candidate {
  double rise;
  int64_t index;
  int64_t slot;
};

FSC_DEVICE bool goes_before(const Candidate& a, const Candidate& b) {
  return a.rise < b.rise || (a.rise == b.rise && a.index < b.index);
}

// The candidate of a block that goes before all others, for every thread; `scratch` holds one a warp.
FSC_DEVICE Candidate block_first(Candidate first, Candidate* scratch) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const Candidate other{shuffle_xor(first.rise, lanes), shuffle_xor(first.index, lanes),
                          shuffle_xor(first.slot, lanes)};
    if (goes_before(other, first)) first = other;
  }
  barrier();  // the scratch may still be read
  if (thread() % kWarp == 0) scratch[thread() / kWarp] = first;
  barrier();
  first = scratch[0];
  for (int w = 1; w < num_threads() / kWarp; ++w) {
    if (goes_before(scratch[w], first)) first = scratch[w];
  }
  return first;
}

// The slot whose removal costs least, w^2 / H^-1_ii; the first of equals.
FSC_DEVICE Candidate cheapest(const Remaining& row, int64_t alive, Candidate* scratch) {
  Candidate best{INFINITY, std::numeric_limits<int64_t>::max(), 0};
  for (int64_t i = thread(); i < alive; i += num_threads()) {
    const double rise = row.weight[i] * row.weight[i] / row.at(i, i);
    // NaN counts as infinity, so that some slot is always found.
    const Candidate candidate{std::isnan(rise) ? static_cast<double>(INFINITY) : rise, row.index[i], i};
    if (goes_before(candidate, best)) best = candidate;
  }
  return block_first(best, scratch);
}

// Takes a row's own copies; a warp reads a row of the matrix.
FSC_DEVICE void take_copies(const Elimination& p, int64_t r, const Remaining& row) {
  const double* inverse = p.inverse + (p.shared_inverse ? 0 : r) * p.dim * p.dim;
  for (int64_t i = thread(); i < p.size; i += num_threads()) {
    row.weight[i] = p.weight[r * p.dim + i];
    row.index[i] = i;
  }
  for (int64_t i = thread() / kWarp; i < p.size; i += num_threads() / kWarp) {
    for (int64_t j = thread() % kWarp; j <= i; j += kWarp) row.matrix[i * p.size + j] = inverse[i * p.dim + j];
  }
  barrier();
}

// Takes the column of a slot out, moves the last slot into its place and lets the remaining weights take over.
FSC_DEVICE void take_over(const Remaining& row, int64_t slot, int64_t last, double ratio) {
  for (int64_t i = thread(); i < last; i += num_threads()) {
    const bool moves = i == slot;  // never where the slot is the last one itself
    const double share = moves ? row.at(last, slot) : row.at(slot, i);
    row.column[i] = share;
    row.weight[i] = row.weight[moves ? last : i] - ratio * share;
    if (moves) {
      row.at(slot, slot) = row.at(last, last);
      row.index[slot] = row.index[last];
    } else if (slot != last) {
      row.at(slot, i) = row.at(last, i);
    }
  }
}

// The lower triangle of the matrix minus column column^T / pivot; a warp has a row.
FSC_DEVICE void update_lower(const Remaining& row, int64_t last, double pivot) {
  for (int64_t i = thread() / kWarp; i < last; i += num_threads() / kWarp) {
    const double share = row.column[i] / pivot;
    double* line = row.matrix + i * row.size;
    for (int64_t j = thread() % kWarp; j <= i; j += kWarp) line[j] -= share * row.column[j];
  }
}

FSC_KERNEL(kEliminationThreads)
elimination_order_kernel(Elimination p) {
  double* vectors = p.vectors + block() * 2 * p.size;
  const Remaining row{p.matrices + block() * p.size * p.size, vectors, vectors + p.size, p.indices + block() * p.size,
                      p.size};
  for (int64_t r = block(); r < p.rows; r += num_blocks()) {
    take_copies(p, r, row);
    for (int64_t step = 0; step < p.size; ++step) {
      const int64_t last = p.size - step - 1;
      const Candidate best = cheapest(row, last + 1, shared<Candidate>());
      const double pivot = row.at(best.slot, best.slot), weight = row.weight[best.slot];
      if (thread() == 0) {
        p.order[r * p.size + step] = best.index;
        p.rises[r * p.size + step] = weight * weight / pivot;
      }
      barrier();  // all have read what the last slot is about to replace
      take_over(row, best.slot, last, weight / pivot);
      barrier();
      update_lower(row, last, pivot);
      barrier();
    }
  }
}

}  // namespace device
}  // namespace fsc
