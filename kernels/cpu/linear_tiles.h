#pragma once

// Walks a linear call in tiles of rows and panels; shared by the vector variants.
//
// Included only by files compiled for one instruction set, with the same care as linear_panels.h.
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

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cpu/linear_panels.h"

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

// What one walk through K computes: kRows rows at most, a few panels.
struct Tile {
  int64_t row;
  int rows;
  int64_t panel;
  int64_t panels;
  // For KeptRows: where they are, whether every block has its own place, and whether they are still
  // to be made.
  std::byte* kept;
  bool keeps;
  bool makes;
};

// How many blocks of K a tile of the call loads, at most.
SHOAL_INLINE int64_t BlocksOf(const LinearCall& call) {
  return (call.weights->cols + kBlockK - 1) / kBlockK;
}
SHOAL_INLINE int64_t BlocksOf(const LeafLinearCall& call) {
  const int64_t leaves = (call.weights->cols + call.leaf_cols - 1) / call.leaf_cols;
  if (call.leaf_cols > kBlockK) return leaves * ((call.leaf_cols + kBlockK - 1) / kBlockK);
  const int64_t together = kBlockK / call.leaf_cols;
  return (leaves + together - 1) / together;
}

// Tells a kernel, at block [k, k_end) of the p-th of the tile's panels, how far behind it lie those
// that come next: the next panels', after the last panel the first ones' next block of k, after the
// last k those of the panels that follow. Of a single panel the weights come as they lie.
template <typename Kernel>
SHOAL_INLINE void SetAhead(Kernel& kernel, const Panels& weights, const Tile& tile, int64_t p,
                           int64_t k, int64_t k_end) {
  if constexpr (PrefetchesAhead<Kernel>) {
    const auto ahead = [&](int64_t blocks) __attribute__((always_inline)) {
      const int64_t next_k = k + (p + blocks) / tile.panels * (k_end - k);
      if (next_k >= weights.cols) return blocks * weights.bytes - Kernel::WeightBytes(k);
      return ((p + blocks) % tile.panels - p) * weights.bytes + Kernel::WeightBytes(next_k - k);
    };
    kernel.ahead = tile.panels == 1 ? Kernel::Lanes::StreamAhead(tile.rows)
                                    : Ahead{.far = ahead(kFarBlocks), .near = ahead(kNearBlocks)};
  }
}

template <typename Kernel, int kRows>
SHOAL_INLINE void ClearResults(float (*results)[kRows][kPanelRows], int rows, int64_t count) {
  for (int64_t p = 0; p < count; ++p) {
    for (int r = 0; r < rows; ++r) Kernel::Lanes::Zero().StoreLanes(results[p][r]);
  }
}

// Where a tile's sums lie: row r's with panel p.
template <typename T>
struct TileSums {
  T* first;
  int64_t panel_stride;
  int64_t row_stride;

  SHOAL_INLINE T* At(int64_t p, int64_t r) const {
    return first + p * panel_stride + r * row_stride;
  }
  SHOAL_INLINE TileSums<const T> ToRead() const { return {first, panel_stride, row_stride}; }
};

template <int kRows>
SHOAL_INLINE TileSums<float> SumsIn(float (*results)[kRows][kPanelRows]) {
  return {.first = results[0][0], .panel_stride = kRows * kPanelRows, .row_stride = kPanelRows};
}

// to = from + the sums of block [k, k + length).
template <typename Kernel, typename Call>
SHOAL_INLINE void AddBlock(Kernel& kernel, const Call& call, const Panels& weights,
                           const Tile& tile, int64_t k, int64_t length, TileSums<const float> from,
                           TileSums<float> to) {
  using Lanes = typename Kernel::Lanes;
  kernel.Load(*call.input, tile.row, k, length);
  const uint8_t* first = weights.data + tile.panel * weights.bytes + Kernel::WeightBytes(k);
  ForPanels<Kernel>(
      tile.panels, [&](int64_t p, auto group) __attribute__((always_inline)) {
        SetAhead(kernel, weights, tile, p, k, k + length);
        if (k + length == weights.cols) {
          FetchOutputs(call, tile.row, tile.rows, tile.panel + p, decltype(group)::kPanels);
        }
        kernel.template Block<decltype(group)::kPanels>(
            first + p * weights.bytes, weights.bytes, 0,
            length, [=](int i, int r, Lanes acc) __attribute__((always_inline)) {
              (Lanes::LoadLanes(from.At(p + i, r)) + acc).StoreLanes(to.At(p + i, r));
            });
      });
}

template <typename Kernel, int kRows>
SHOAL_INLINE void ComputeTile(Kernel& kernel, const LinearCall& call, const Tile& tile) {
  using Lanes = typename Kernel::Lanes;
  const Panels weights = PanelsOf<Kernel>(*call.weights);
  alignas(64) float results[Kernel::kPanels][kRows][kPanelRows];
  const TileSums<float> sums = SumsIn(results);
  const TileSums<float> outputs = {
      .first = call.output + tile.row * call.output_stride + tile.panel * kPanelRows,
      .panel_stride = kPanelRows,
      .row_stride = call.output_stride};
  if constexpr (KeepsRows<Kernel> && kRows > kStreamedRows) {
    // Of many rows, the last block's sums go straight to the outputs, but for a matrix's last ones.
    alignas(64) static constexpr float kZeros[kPanelRows] = {};
    const bool whole = OutputsOf(weights, tile.panel + tile.panels - 1) == kPanelRows;
    TileSums<const float> from = {.first = kZeros, .panel_stride = 0, .row_stride = 0};
    for (int64_t k = 0; k < weights.cols; k += kBlockK) {
      const int64_t length = Smaller(kBlockK, weights.cols - k);
      AddBlock(kernel, call, weights, tile, k, length, from,
               whole && k + length == weights.cols ? outputs : sums);
      from = sums.ToRead();
    }
    if (whole) return;
  } else {
    ClearResults<Kernel, kRows>(results, tile.rows, tile.panels);
    for (int64_t k = 0; k < weights.cols; k += kBlockK) {
      AddBlock(kernel, call, weights, tile, k, Smaller(kBlockK, weights.cols - k), sums.ToRead(),
               sums);
    }
  }
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t p = 0; p < tile.panels; ++p) {
      Lanes::LoadLanes(sums.At(p, r))
          .StoreOutputs(outputs.At(p, r), OutputsOf(weights, tile.panel + p));
    }
  }
}

template <typename Kernel>
struct AdderOf {
  using Type = DoNothing;
};
template <AddsBetween Kernel>
struct AdderOf<Kernel> {
  using Type = typename Kernel::FixedAdder;
};

// The sums of a tile of a row-parallel layer: results of leaves, and their sums as integers.
template <typename Kernel, int kRows>
struct LeafSums {
  using Lanes = typename Kernel::Lanes;

  // Leaves the arrays as they are.
  SHOAL_INLINE LeafSums(Kernel& leaf_kernel, const LeafLinearCall& leaf_call,
                        const Panels& leaf_weights, const Tile& leaf_tile)
      : kernel(leaf_kernel), call(leaf_call), weights(leaf_weights), tile(leaf_tile) {}

  // Leaves of one block at most, [k_begin, k_end) together no longer than a block.
  SHOAL_INLINE void AddShortLeaves(int64_t k_begin, int64_t k_end) {
    const int64_t leaf_cols = call.leaf_cols;
    const float limit = call.limit;
    kernel.Load(*call.input, tile.row, k_begin, k_end - k_begin);
    const uint8_t* first = weights.data + tile.panel * weights.bytes;
    ForPanels<Kernel>(
        tile.panels, [&](int64_t p, auto group) __attribute__((always_inline)) {
          SetAhead(kernel, weights, tile, p, k_begin, k_end);
          if (k_end == weights.cols) {
            FetchOutputs(call, tile.row, tile.rows, tile.panel + p, decltype(group)::kPanels);
          }
          const auto add = [&](int i, int r, Lanes acc) __attribute__((always_inline)) {
            // Without the contract's +0 before it: no integer shows a zero's sign.
            const uint32_t bad = Kernel::AddFixed(acc, limit, sums[p + i][r]);
            if (__builtin_expect(bad != 0, 0)) CountInvalid(r, bad, p + i);
          };
          const uint8_t* data = first + p * weights.bytes;
          if constexpr (AddsBetween<Kernel>) {
            for (int64_t k = k_begin; k < k_end; k += leaf_cols) {
              AddLeafLater(data + Kernel::WeightBytes(k), p, k - k_begin,
                           Smaller(leaf_cols, k_end - k));
            }
          } else if constexpr (TakesLeavesTogether<Kernel>) {
            kernel.Leaves(data + Kernel::WeightBytes(k_begin), 0, k_end - k_begin, leaf_cols, add);
          } else {
            for (int64_t k = k_begin; k < k_end; k += leaf_cols) {
              kernel.template Block<decltype(group)::kPanels>(data + Kernel::WeightBytes(k),
                                                              weights.bytes, k - k_begin,
                                                              Smaller(leaf_cols, k_end - k), add);
            }
          }
        });
  }

  // A leaf of a block at most. Its results wait in results[0] or [1], and are added to the sums
  // while the next leaf's are computed to the other.
  SHOAL_INLINE void AddLeafLater(const uint8_t* data, int64_t p, int64_t k, int64_t count) {
    static_assert(Kernel::kPanels >= 2 && Lanes::kFixedBias == 0);
    // Members would be stored and read again with every addition, which might write to them.
    float(*fresh)[kPanelRows] = results[waiting ^ 1];
    const float(*old)[kPanelRows] = results[waiting];
    int64_t(*old_sums)[kPanelRows] = sums[waiting_panel];
    auto adding = adder;
    kernel.template Block<1>(
        data, weights.bytes, k, count,
        [fresh](int, int r, Lanes acc) __attribute__((always_inline)) { acc.StoreLanes(fresh[r]); },
        [&adding, old, old_sums ](int64_t r)
            __attribute__((always_inline)) { adding.Add(Lanes::LoadLanes(old[r]), old_sums[r]); });
    adder = adding;
    CheckWaiting();
    waiting ^= 1;
    waiting_panel = p;
  }

  SHOAL_INLINE void CheckWaiting() {
    if (__builtin_expect(!adder.AllBelow(call.limit), 0)) TakeBackInvalid();
  }

  void __attribute__((noinline)) TakeBackInvalid() {
    for (int r = 0; r < kRows; ++r) {
      const uint32_t bad = Kernel::FixedAdder::TakeBack(Lanes::LoadLanes(results[waiting][r]),
                                                        call.limit, sums[waiting_panel][r]);
      if (bad != 0) CountInvalid(r, bad, waiting_panel);
    }
    adder = {};
  }

  SHOAL_INLINE void AddTheLastLeaf() {
    for (int r = 0; r < kRows; ++r) {
      adder.Add(Lanes::LoadLanes(results[waiting][r]), sums[waiting_panel][r]);
    }
    CheckWaiting();
  }

  // One leaf of several blocks.
  SHOAL_INLINE void AddLongLeaf(int64_t k_begin, int64_t k_end) {
    ClearResults<Kernel, kRows>(results, tile.rows, tile.panels);
    const TileSums<float> leaf = SumsIn(results);
    for (int64_t k = k_begin; k < k_end; k += kBlockK) {
      AddBlock(kernel, call, weights, tile, k, Smaller(kBlockK, k_end - k), leaf.ToRead(), leaf);
    }
    for (int64_t p = 0; p < tile.panels; ++p) {
      for (int r = 0; r < tile.rows; ++r) {
        const uint32_t bad =
            Kernel::AddFixed(Lanes::LoadLanes(results[p][r]), call.limit, sums[p][r]);
        if (__builtin_expect(bad != 0, 0)) CountInvalid(r, bad, p);
      }
    }
  }

  // Padding lanes of an invalid row are NaN too, but they are nobody's output.
  void CountInvalid(int r, uint32_t bad, int64_t p) {
    const int64_t outputs = OutputsOf(weights, tile.panel + p);
    invalid[r] += __builtin_popcount(bad & ((uint32_t{1} << outputs) - 1));
  }

  void Clear() {
    if constexpr (AddsBetween<Kernel>) ClearResults<Kernel, kRows>(results, kRows, 1);
    const int64_t start = FixedStart<Lanes>(weights.cols, call.leaf_cols);
    for (int r = 0; r < tile.rows; ++r) {
      invalid[r] = 0;
      for (int64_t p = 0; p < tile.panels; ++p) {
        for (int64_t lane = 0; lane < kPanelRows; ++lane) sums[p][r][lane] = start;
      }
    }
  }

  SHOAL_INLINE void Store() const {
    for (int r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.row + r;
      for (int64_t p = 0; p < tile.panels; ++p) {
        int64_t* output = call.output + row * call.output_stride + (tile.panel + p) * kPanelRows;
        const int64_t outputs = OutputsOf(weights, tile.panel + p);
        if (outputs == kPanelRows) {
          __builtin_memcpy(output, sums[p][r], sizeof(sums[p][r]));
        } else {
          for (int64_t lane = 0; lane < outputs; ++lane) output[lane] = sums[p][r][lane];
        }
      }
      if (invalid[r] != 0) __atomic_fetch_add(&call.invalid[row], invalid[r], __ATOMIC_RELAXED);
    }
  }

  Kernel& kernel;
  const LeafLinearCall& call;
  const Panels& weights;
  const Tile& tile;
  alignas(64) int64_t sums[Kernel::kPanels][kRows][kPanelRows];
  alignas(64) float results[Kernel::kPanels][kRows][kPanelRows];
  int64_t invalid[kRows];
  // Of kernels that add between: the leaf computed last; before the first, one of zeros.
  typename AdderOf<Kernel>::Type adder;
  int64_t waiting = 0;
  int64_t waiting_panel = 0;
};

template <typename Kernel, int kRows>
SHOAL_INLINE void ComputeTile(Kernel& kernel, const LeafLinearCall& call, const Tile& tile) {
  const Panels weights = PanelsOf<Kernel>(*call.weights);
  LeafSums<Kernel, kRows> sums(kernel, call, weights, tile);
  sums.Clear();
  if (call.leaf_cols <= kBlockK) {
    const int64_t step = kBlockK / call.leaf_cols * call.leaf_cols;
    for (int64_t k = 0; k < weights.cols; k += step) {
      sums.AddShortLeaves(k, Smaller(k + step, weights.cols));
    }
    if constexpr (AddsBetween<Kernel>) sums.AddTheLastLeaf();
  } else {
    for (int64_t k = 0; k < weights.cols; k += call.leaf_cols) {
      sums.AddLongLeaf(k, Smaller(k + call.leaf_cols, weights.cols));
    }
  }
  sums.Store();
}

template <typename Kernel, int kRows, typename Call>
void RunTile(Kernel& kernel, const Call& call, const Tile& tile) {
  SetRows(kernel, tile.rows);
  if constexpr (KeepsRows<Kernel>) {
    kernel.rows.next = reinterpret_cast<decltype(kernel.rows.next)>(tile.kept);
    kernel.rows.step = tile.keeps ? 1 : 0;
    kernel.rows.makes = tile.makes;
  }
  ComputeTile<Kernel, kRows>(kernel, call, tile);
}

// Panels outside, rows inside: a few panels stay in the cache while all rows pass by, or as many as
// are kept. Both are dealt to tiles evenly, so that 17 rows are 9 + 8 and not 16 + 1.
template <typename Kernel, int64_t kRowsMax, typename Call, typename Run>
SHOAL_INLINE void ForTiles(const Call& call, Run run) {
  constexpr int64_t kBlockBytes = RowBlockBytes<Kernel>();
  alignas(64) std::byte kept[kBlockBytes > 0 ? kKeptBytes : 1];
  int64_t unit = 1;
  if constexpr (TakesRowsTogether<Kernel>) unit = Kernel::kRowUnit;
  const int64_t rows = call.row_end - call.row_begin;
  const int64_t tiles = (rows + kRowsMax - 1) / kRowsMax;
  const int64_t units = (rows + unit - 1) / unit;
  const int64_t panels = call.panel_end - call.panel_begin;
  const int64_t step = PrefetchesAhead<Kernel> && rows <= kStreamedRows ? 1 : Kernel::kPanels;
  const int64_t columns = (panels + step - 1) / step;
  const int64_t tile_bytes = BlocksOf(call) * kBlockBytes;
  const bool keeps = kBlockBytes > 0 && columns > 1 && tile_bytes <= kKeptBytes;
  const int64_t together = keeps ? Smaller(kKeptBytes / tile_bytes, tiles) : tiles;
  int64_t first_row = call.row_begin;
  for (int64_t first = 0; first < tiles; first += together) {
    int64_t row = first_row;
    int64_t panel = call.panel_begin;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t panel_count = panels / columns + (column < panels % columns ? 1 : 0);
      row = first_row;
      for (int64_t i = first; i < Smaller(first + together, tiles); ++i) {
        const int64_t dealt = units / tiles + (i < units % tiles ? 1 : 0);
        const auto row_count = static_cast<int>(Smaller(dealt * unit, call.row_end - row));
        run(Tile{.row = row,
                 .rows = row_count,
                 .panel = panel,
                 .panels = panel_count,
                 .kept = keeps ? kept + (i - first) * tile_bytes : kept,
                 .keeps = keeps,
                 .makes = !keeps || column == 0});
        row += row_count;
      }
      panel += panel_count;
    }
    first_row = row;
  }
}

template <template <int> typename Kernel, typename Call, int... kMinus1>
SHOAL_INLINE void RunTiles(const Call& call, std::integer_sequence<int, kMinus1...>) {
  using RunRows = void (*)(const Call&, const Tile&);
  static constexpr RunRows kRuns[] = {[](const Call& tile_call, const Tile& tile) {
    Kernel<kMinus1 + 1> kernel;
    RunTile<Kernel<kMinus1 + 1>, kMinus1 + 1>(kernel, tile_call, tile);
  }...};
  constexpr int kRowsMax = sizeof...(kMinus1);
  ForTiles<Kernel<kRowsMax>, kRowsMax>(call,
                                       [&](const Tile& tile) { kRuns[tile.rows - 1](call, tile); });
}

// One Kernel<rows> for each number of rows up to kRowsMax.
template <template <int> typename Kernel, int kRowsMax, typename Call>
SHOAL_INLINE void Run(const Call& call) {
  RunTiles<Kernel>(call, std::make_integer_sequence<int, kRowsMax>());
}

// One Kernel for any number of rows.
template <typename Kernel, typename Call>
SHOAL_INLINE void RunAnyRows(const Call& call) {
  Kernel kernel;
  ForTiles<Kernel, Kernel::kRowsMax>(
      call, [&](const Tile& tile) { RunTile<Kernel, Kernel::kRowsMax>(kernel, call, tile); });
}

}  // namespace
}  // namespace shoal::cpu
