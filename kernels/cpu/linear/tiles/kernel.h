#pragma once

// What a Kernel is, which computes a tile of a linear layer for one instruction set and format.
// Local to the file that includes it (kernels/cpu/inline.h says why).
//
// A Kernel<rows> handles `rows` activation rows against one panel; a Kernel with kRowsMax handles
// any number up to that, which it finds in its member row_count. A member `ahead`, if there is one,
// says which weights it should prefetch:
//   kPanels                       panels that share one Load, unless there are few rows
//   Lanes                         16 floats, one for each output of a panel: Zero, LoadLanes,
//                                 StoreLanes, StoreOutputs (the first `count`), +, kFixedBias,
//                                 StreamAhead(rows): how far ahead to prefetch weights that are
//                                 read as they lie in memory
//   AddFixed(y, limit, sums)      adds kFixedBias to sums[16], and RNE(y * 2^32) where |y| < limit;
//                                 returns the other lanes as bits
//   Load(input, row, k, count)    takes up to a block of `rows` rows of activations; for every few
//                                 panels k ascends from 0 in the same blocks
//   kTogether                     panels that one Block should take where there are as many; more
//                                 than one keeps several chains of additions in flight
//   Block<panels>(weights, panel_bytes, k, count, sink)
//                                 calls sink(p, r, lanes) for every panel and row, with the sum
//                                 over `count` k from the k-th loaded on
//   kAddsBetween, FixedAdder      if there are: AddFixed in two steps, of which the first asks
//                                 nothing. Block then has another parameter between(row), which it
//                                 calls once for every row before it calls sink: small work that
//                                 runs beside its multiplications
//   Leaves(weights, k, count, leaf, sink)   if there is one: as Block, of one panel, but for every
//                                 `leaf` of the k by itself
//   rows                          if there is one, a KeptRows: what Load makes of blocks of rows,
//                                 which the kernel reads in *rows.block
//   kRowUnit                      if there is one: tiles are multiples of so many rows, but the
//                                 last
//   WeightBytes(k)                bytes of k weights per output in a panel

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/linear/tiles/kept_rows.h"

namespace shoal::cpu {
namespace {

template <typename Kernel>
concept TakesAnyRows = requires {
  Kernel::kRowsMax;
};

template <typename Kernel>
concept TakesRowsTogether = requires {
  Kernel::kRowUnit;
};

template <typename Kernel>
concept AddsBetween = requires {
  requires Kernel::kAddsBetween;
};

struct DoNothing {
  SHOAL_INLINE void operator()(int64_t) const {}
};

template <typename Kernel>
concept PrefetchesAhead = requires(Kernel kernel) {
  kernel.ahead;
};

template <typename Kernel>
concept TakesLeavesTogether = requires(Kernel kernel) {
  kernel.Leaves(nullptr, 0, 0, 0, [](int, int, typename Kernel::Lanes) {});
};

template <typename Kernel>
concept KeepsRows = requires(Kernel kernel) {
  kernel.rows.makes;
};

template <typename Kernel>
constexpr int64_t RowBlockBytes() {
  if constexpr (KeepsRows<Kernel>) return sizeof(*Kernel::rows.block);
  return 0;
}

template <typename Kernel>
SHOAL_INLINE void SetRows(Kernel& kernel, int rows) {
  if constexpr (TakesAnyRows<Kernel>) kernel.row_count = rows;
}

}  // namespace
}  // namespace shoal::cpu
