#pragma once

// A packed matrix as the vector variants see it, and the walk over its panels. Local to the file
// that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

// With up to so many rows the time goes into reading weights, so panels are walked one by one, in
// the order in which they lie in memory: hardware prefetches what follows, and a Load for each
// panel costs less than the jumps between panels.
constexpr int64_t kStreamedRows = 4;

SHOAL_INLINE int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The matrix's fields as the tiles need them; PackedMatrix's own members have external linkage.
struct Panels {
  const uint8_t* data;
  int64_t bytes;  // Of one panel.
  int64_t rows;
  int64_t cols;
};

template <typename Kernel>
SHOAL_INLINE Panels PanelsOf(const PackedMatrix& weights) {
  return {.data = reinterpret_cast<const uint8_t*>(weights.data),
          .bytes = (Kernel::WeightBytes(weights.cols) + 63) / 64 * 64,
          .rows = weights.rows,
          .cols = weights.cols};
}

SHOAL_INLINE int64_t OutputsOf(const Panels& weights, int64_t panel) {
  return Smaller(weights.rows - panel * kPanelRows, kPanelRows);
}

// Where a sum of fixed-point leaves starts, so that the biases which Lanes adds with each leaf make
// it zero.
template <typename Lanes>
SHOAL_INLINE int64_t FixedStart(int64_t cols, int64_t leaf_cols) {
  const auto leaves = static_cast<uint64_t>((cols + leaf_cols - 1) / leaf_cols);
  return static_cast<int64_t>(-Lanes::kFixedBias * leaves);
}

template <int kCount>
struct PanelGroup {
  static constexpr int kPanels = kCount;
};

// Calls visit(p, PanelGroup) for groups of panels that tile [0, count).
template <typename Kernel, typename Visit>
SHOAL_INLINE void ForPanels(int64_t count, Visit visit) {
  int64_t p = 0;
  if constexpr (Kernel::kTogether > 1) {
    for (; p + Kernel::kTogether <= count; p += Kernel::kTogether) {
      visit(p, PanelGroup<Kernel::kTogether>());
    }
  }
  for (; p < count; ++p) visit(p, PanelGroup<1>());
}

}  // namespace
}  // namespace shoal::cpu
