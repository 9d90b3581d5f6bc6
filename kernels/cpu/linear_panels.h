#pragma once

// A packed matrix as the vector variants see it, the walk over its panels, and where rows of
// activations are kept meanwhile.
//
// Included only by files compiled for one instruction set. Everything here has internal linkage and
// calls no function that has not: a copy compiled with instruction-set flags that the linker merged
// into baseline code would crash older machines.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/table.h"

#define SHOAL_INLINE inline __attribute__((always_inline))

namespace shoal::cpu {
namespace {

// With up to so many rows the time goes into reading weights, so panels are walked one by one, in
// the order in which they lie in memory: hardware prefetches what follows, and a Load for each
// panel costs less than the jumps between panels.
constexpr int64_t kStreamedRows = 4;

// Room for rows that are made ready once and meet many panels, on the stack: a part of the second
// cache, of which panels have a part too.
constexpr int64_t kKeptBytes = 256 << 10;

// What a kernel makes of the rows of its blocks: each is made once, with the first of the panels
// that share the call's rows, if there is room to keep it.
template <typename Block>
struct KeptRows {
  template <typename... Arguments>
  SHOAL_INLINE void Load(const Arguments&... arguments) {
    block = next;
    next += step;
    if (makes) block->Load(arguments...);
  }

  Block* block;  // The one at hand.
  Block* next;
  int64_t step;  // 0: each takes the place of the one before it.
  bool makes;    // Or they are there.
};

// Bytes from the weights at hand to those that should come to the second cache, whose many pending
// reads hide the memory's latency, and to those that should come from there to the first.
struct Ahead {
  int64_t far;
  int64_t near;
};
// Of weights that are read as they lie in memory.
constexpr Ahead kStreamAhead = {.far = 8192, .near = 1024};
// Of others, in blocks of a panel, which follow each other in the order in which they are read.
constexpr int64_t kFarBlocks = 4;
constexpr int64_t kNearBlocks = 1;

template <int64_t kBytes>
SHOAL_INLINE void Prefetch(const uint8_t* from, Ahead ahead) {
  const uint8_t* far = from + ahead.far;
  const uint8_t* near = from + ahead.near;
  // One register each: GCC would keep one for every line of a distance that is chosen at run time.
  asm("" : "+r"(far), "+r"(near));
#pragma GCC unroll 16
  for (int64_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(far + line, 0, 2);
    __builtin_prefetch(near + line);
  }
}

// Fetches the memory that these rows' outputs of these panels go to, to be written: another core,
// which read them last, may hold it, and a store that waits for it holds up those behind it.
template <typename Call>
SHOAL_INLINE void FetchOutputs(const Call& call, int64_t row, int64_t rows, int64_t panel,
                               int64_t panels) {
  constexpr int64_t kLine = 64 / sizeof(*call.output);
  for (int64_t r = row; r < row + rows; ++r) {
    const auto* outputs = call.output + r * call.output_stride + panel * kPanelRows;
    for (int64_t o = 0; o < panels * kPanelRows; o += kLine) {
      __builtin_prefetch(outputs + o, /*rw=*/1);
    }
  }
}

// So for the row that follows one of `cols` values in `groups` groups, while that is quantised.
SHOAL_INLINE void FetchNextRow(const int8_t* quants, int64_t cols, const float* scales,
                               const int32_t* sums, int64_t groups) {
  for (int64_t i = 0; i < cols; i += 64) __builtin_prefetch(quants + cols + i, /*rw=*/1);
  for (int64_t i = 0; i < groups; i += 16) {
    __builtin_prefetch(scales + groups + i, /*rw=*/1);
    __builtin_prefetch(sums + groups + i, /*rw=*/1);
  }
}

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
