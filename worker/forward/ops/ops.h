#pragma once

// The operations of a step over batches of its rows: what a device implements. This is the CPU's:
// it calls kernels, on the threads that the executor gives a tile.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/table.h"
#include "kernels/math/rope_table.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/forward/activations.h"
#include "worker/forward/kv_pool.h"
#include "worker/forward/ops/attention_tiles.h"
#include "worker/forward/rows/row_executor.h"
#include "worker/forward/rows/row_tile.h"
#include "worker/forward/rows/step_rows.h"
#include "worker/forward/shard_weights.h"

namespace shoal::forward {

// The norm of the residual, for the matrices that read it.
struct NormedInput {
  const float* norm = nullptr;  // [hidden_dim]
  // The matrices' formats, one of those that want their input in the same groups.
  std::vector<DType> readers;
};
NormedInput MakeNormedInput(const float* norm, std::span<const DType> readers);

// A sum over the ranks of a stage: of the products of a row-parallel matrix, of which each rank
// holds some columns.
struct RowParallelSum {
  const PackedMatrix* weights;
  int64_t leaf_cols;
  float leaf_limit;  // Every leaf must stay below it.
  int64_t layer;     // Of the model: a bad row is blamed on it.
};
RowParallelSum MakeRowParallelSum(const PackedMatrix& weights, int64_t leaf_cols,
                                  int64_t leaf_count, int64_t layer);

// The input of a row-parallel matrix.
enum class RowParallelInput : uint8_t {
  kHeads,  // The heads' outputs, as they are.
  kGated,  // silu(gate) * up
};

// Where what the operations use lies. All of it outlives them.
struct OpsMemory {
  const model::Model& model;
  const plan::RankShard& shard;
  const KvPool& kv_pool;
  const math::RopeTable& rope;
  StepRows& rows;
  Activations& activations;
};

// Threading: operations on different tiles may run at once; of one that is not `alone` the thread 0
// of the team calls them. None allocates.
class Ops {
 public:
  Ops(const OpsMemory& memory, const cpu::KernelTable& kernels, RowExecutor& executor);

  int64_t hidden_dim() const { return hidden_dim_; }

  // Whether sums get a check sum on the way from SumLeaves to AddAndNorm, from now on. Rows whose
  // sum only one rank has need it: no other rank can tell that it is wrong.
  void SetCheckSums(bool on) { check_sums_ = on; }
  // True if AddAndNorm has met a sum that is not that of its parts since the last call.
  bool TakeWrongSum() { return wrong_sum_.exchange(false); }

  // residual = the embeddings of the tokens that are `held` here, else zeros.
  void Embed(const model::Tensor& table, plan::Range held, const RowTile& tile);

  // Makes an input of the residual.
  void Norm(const NormedInput& input, const RowTile& tile);
  // The same after residual += what `fixed` stands for, the ranks' sums; without an input that
  // alone. Rows whose sum is invalid are blamed on the sum's layer.
  void AddAndNorm(const RowParallelSum& sum, const NormedInput* input, const RowTile& tile);
  // The two for Numerics::kFast: float_sums = what `fixed` stands for, and residual += float_sums.
  void RoundSums(const RowParallelSum& sum, const RowTile& tile);
  void AddRoundedAndNorm(const RowParallelSum& sum, const NormedInput* input, const RowTile& tile);

  // Column-parallel products with the input that a norm made. `next`: the memory of the matrices
  // that come after these.
  void ProjectQkv(const LayerWeights& weights, const RowTile& tile,
                  std::span<const std::byte> next);
  void ProjectGateAndUp(const LayerWeights& weights, const RowTile& tile,
                        std::span<const std::byte> next);

  // Rotates queries and keys, and stores keys and values in the cache; counts what overflows there.
  void RotateAndStore(int64_t layer, const RowTile& tile);
  void Attend(int64_t layer, const AttentionTile& tile, int32_t thread);

  // Makes the input of `weights` and quantises it as they want it.
  void MakeInput(RowParallelInput input, const PackedMatrix& weights, const RowTile& tile);
  // The same in two halves, where each rank holds a part of rows that are quantised as a whole:
  // between them largest_bits becomes the largest of all ranks'.
  void MeasureInput(RowParallelInput input, const PackedMatrix& weights, const RowTile& tile);
  void QuantizeMeasured(RowParallelInput input, const PackedMatrix& weights, const RowTile& tile);
  // fixed = this rank's part of the sum, with the invalid leaves of each row, for the heads also
  // what overflowed in the cache.
  void SumLeaves(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                 std::span<const std::byte> next);

  // logits = the output matrix times the norm of some rows' residuals, kLogitTileRows at most.
  void Logits(const float* norm, const PackedMatrix& output, std::span<const int64_t> rows,
              std::span<const std::byte> next);

  // Blames rows that overflowed in the cache on this layer of the model.
  void BlameOverflows(int64_t layer);
  // Moves queries and residuals of these rows, in ascending order, to the front.
  void KeepRows(std::span<const int64_t> rows);

  // What matrices read, before it is quantised: the tile's rows, each `cols` wide.
  std::span<const float> NormedOf(const RowTile& tile) const;
  std::span<const float> InputOf(RowParallelInput input, int64_t cols, const RowTile& tile) const;

 private:
  // Column-parallel matrices that read the same rows, at most: query, key and value.
  static constexpr size_t kProductsMax = 3;
  // A product with one of them. The output begins with the tile's first row.
  struct Product {
    const PackedMatrix* weights;
    float* output;
    int64_t output_stride;
  };

  // Makes a row's words add up to 0, whatever ranks are added to it.
  void AddCheckSum(int64_t* row) const;
  void NormRow(const NormedInput& input, int64_t row, const RowSpace& to);
  int64_t AddRow(const RowParallelSum& sum, int64_t row, const RowTile& tile, float* to);
  float* RowOf(RowParallelInput input, int64_t cols, int64_t row, const RowTile& tile) const;
  // Result: the row of the input.
  const float* MakeRow(RowParallelInput input, int64_t cols, int64_t row, const RowTile& tile);
  void QuantizeRow(DType dtype, const float* values, int64_t cols, LayerRows& to, int64_t row);
  ActivationRows Input(DType dtype, const float* values, int64_t cols, int64_t count, LayerRows& at,
                       int64_t first);
  void Multiply(std::span<const Product> products, const RowTile& tile,
                std::span<const std::byte> next);
  void MultiplyPart(std::span<const Product> products, LayerRows& at, int64_t first,
                    plan::Range rows, plan::Range panels);
  void SumLeavesPart(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                     plan::Range rows, plan::Range panels);
  // The tile's first row of `fixed`.
  int64_t* FixedOf(const RowTile& tile) const;

  const cpu::KernelTable& kernels_;
  RowExecutor& executor_;
  StepRows& rows_;
  Activations& activations_;
  const KvPool& kv_pool_;
  const math::RopeTable& rope_;
  const int64_t hidden_dim_;
  const int64_t head_dim_;
  const int64_t heads_;     // This rank's query heads,
  const int64_t kv_heads_;  // and key/value heads.
  const float norm_epsilon_;
  bool check_sums_ = false;
  std::atomic<bool> wrong_sum_ = false;
  void (*const rotate_)(float* head, const float* cos, const float* sin, int64_t head_dim);
};

}  // namespace shoal::forward
