#pragma once

// The scratch memory of a step, sized once at start-up for the largest plan.

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/forward/rows/row_tile.h"

namespace shoal::forward {

// Rows of logits that are in memory at once; a plan that wants more is served tile by tile.
constexpr int64_t kLogitTileRows = 16;

// The groups that a matrix of `dtype` wants its input in; 0: a whole row.
constexpr int64_t InputGroup(DType dtype) {
  return QuantizesWholeRows(dtype) ? 0 : GroupSize(dtype);
}
// How many they are in a row.
constexpr int64_t InputGroups(DType dtype, int64_t cols) {
  return QuantizesWholeRows(dtype) ? 1 : cols / GroupSize(dtype);
}

// A vector that begins at a cache line, as then all its rows do if they are whole lines: a vector
// register's load or store that touches two lines costs twice.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}  // NOLINT: what an allocator of another type is.

  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* values, size_t) { ::operator delete(values, kLine); }
  bool operator==(const LineAllocator&) const = default;
};
template <typename T>
using Lines = std::vector<T, LineAllocator<T>>;

// Rows as signed bytes, in groups of one size: what ActivationRows points to.
struct QuantizedRows {
  int64_t group;         // As InputGroup.
  Lines<int8_t> quants;  // [the widest input]
  Lines<float> scales;   // [the widest input / group]
  Lines<int32_t> sums;   // [the widest input / group]
};

// Integers after a row's fixed-point outputs: a count, a check sum if the step has them, and some
// that keep rows aligned.
constexpr int64_t kFixedTail = 8;

// What stands between the matrices of a layer. Shapes: [rows][...], row-major, the widths those of
// this rank's shard.
struct LayerRows {
  LayerRows(const model::Model& model, const plan::RankShard& shard, int64_t rows);

  // What such an object takes.
  static int64_t MemoryBytes(const model::Model& model, const plan::RankShard& shard, int64_t rows);

  // Those that a matrix of `dtype`, which the model has, reads.
  QuantizedRows& Quantized(DType dtype);

  Lines<float> normed;                   // [hidden_dim]
  Lines<float> gate;                     // [mlp_columns]; also the input of the down projection
  Lines<float> up;                       // [mlp_columns]
  std::vector<QuantizedRows> quantized;  // One for each group size among the model's matrices.
  // The sum that crosses the cut: a row's fixed-point outputs, or dot products, then the count of
  // its invalid leaves.
  Lines<int64_t> fixed;  // [hidden_dim + kFixedTail]
};

// Shapes: [rows_max][...], row-major, the widths those of this rank's shard.
struct Activations {
  Activations(const model::Model& model, const plan::RankShard& shard, int64_t rows_max,
              int32_t thread_count, int32_t stage_size);

  // What such an object takes, with float_sums if `fast`.
  static int64_t MemoryBytes(const model::Model& model, const plan::RankShard& shard,
                             int64_t rows_max, int32_t thread_count, int32_t stage_size, bool fast);

  int64_t rows_max;
  Lines<float> residual;             // [hidden_dim]
  Lines<float> query;                // [heads * head_dim]
  Lines<float> key;                  // [kv_heads * head_dim]
  Lines<float> value;                // [kv_heads * head_dim]
  Lines<float> attention;            // [heads * head_dim]
  LayerRows all;                     // Of all rows.
  std::vector<LayerRows> tiles;      // By thread; empty if no step makes several tiles.
  Lines<float> float_sums;           // [hidden_dim + kFixedTail]; only for Numerics::kFast.
  Lines<int64_t> invalid;            // Per row: invalid leaves of this rank.
  Lines<int64_t> largest_bits;       // Per row, of a row that is quantised as a whole.
  Lines<int64_t> kv_overflows;       // Per row, in the layer at hand.
  Lines<float> logits;               // [kLogitTileRows][vocab_rows]
  Lines<std::byte> gathered;         // All ranks' logits, rank after rank.
  Lines<float> all_logits;           // [kLogitTileRows][vocab_size]
  Lines<float> attention_scratch;    // Per thread.
  int64_t attention_scratch_floats;  // Of one thread.
};

}  // namespace shoal::forward
