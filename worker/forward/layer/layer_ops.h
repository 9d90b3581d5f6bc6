#pragma once

// The operations of a layer in which the ranks of a stage take part: those of ops.h, and what is
// exchanged between them.

#include <cstdint>
#include <optional>
#include <span>

#include "worker/forward/ops/ops.h"
#include "worker/forward/rank_options.h"
#include "worker/forward/rows/stage_exchange.h"

namespace shoal::forward {

// Threading: as Ops; operations that exchange something get all rows of the step, or a tile if
// there is only one rank.
class LayerOps {
 public:
  // All outlive the object.
  LayerOps(Ops& ops, StageExchange& exchange, Activations& activations, const InputSink& on_input,
           FaultSwitch& fault)
      : ops_(ops),
        exchange_(exchange),
        activations_(activations),
        on_input_(on_input),
        fault_(fault) {}

  Ops& on_rank() const { return ops_; }

  // Adds the sum, if there is one, to the residual of the rows that this rank finishes, and makes
  // an input of them; then of all rows. `layer`: of the model, `which`: for who watches.
  void AddAndNorm(const std::optional<RowParallelSum>& sum, const NormedInput& input, int64_t layer,
                  LayerInput which, const RowTile& tile) const;
  // The former alone.
  void Add(const RowParallelSum& sum, const RowTile& tile) const;

  // True if the ranks exchange something to make the input of these weights, of which each rank
  // holds some columns: a row that is quantised as a whole.
  bool MakesInputAcrossRanks(const PackedMatrix& weights) const {
    return QuantizesWholeRows(weights.dtype) && exchange_.ranks() > 1;
  }
  // This rank's part of a row-parallel sum, with the making of its input. `next`: as SumLeaves's.
  void SumOnRank(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                 std::span<const std::byte> next) const;
  // Makes it the sum of all ranks' parts.
  void SumOverRanks(const RowParallelSum& sum, const RowTile& tile) const;

 private:
  void ExchangeSums(const RowParallelSum& sum, const RowTile& tile) const;
  // In a sum of the first row that this rank finishes.
  void FlipBit(const RowTile& tile) const;
  // Of the rows that this rank finishes. `input` may be null.
  void AddAndNormOwn(const RowParallelSum& sum, const NormedInput* input,
                     const RowTile& tile) const;

  Ops& ops_;
  StageExchange& exchange_;
  Activations& activations_;
  const InputSink& on_input_;
  FaultSwitch& fault_;
};

}  // namespace shoal::forward
