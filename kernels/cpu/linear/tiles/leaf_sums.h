#pragma once

// A tile of a row-parallel layer: results of leaves, and their sums as integers. Local to the file
// that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/linear/tiles/tile.h"

namespace shoal::cpu {
namespace {

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

}  // namespace
}  // namespace shoal::cpu
