#include "worker/forward/layer/mlp.h"

#include <array>

namespace shoal::forward {

Mlp::Mlp(const LayerOps& ops, const model::Model& model, const LayerWeights& weights,
         const RowParallelSum& before, std::span<const std::byte> next)
    : ops_(ops),
      weights_(weights),
      before_(before),
      input_(MakeNormedInput(weights.ffn_norm, std::array{weights.gate.dtype, weights.up.dtype})),
      sum_(MakeRowParallelSum(weights.down, model.leaves().mlp_leaf_width,
                              model.leaves().mlp_leaf_count, before.layer)),
      next_(next) {}

void Mlp::Run(const RowPass& pass) const {
  pass.AcrossRanks([this](const RowTile& tile) {
    ops_.AddAndNorm(before_, input_, sum_.layer, LayerInput::kMlp, tile);
  });
  pass.Run(ops_.MakesInputAcrossRanks(*sum_.weights), [this](const RowTile& tile) {
    ops_.on_rank().ProjectGateAndUp(weights_, tile, MemoryOf(weights_.down, weights_.down));
    ops_.SumOnRank(RowParallelInput::kGated, sum_, tile, next_);
  });
  pass.AcrossRanks([this](const RowTile& tile) { ops_.SumOverRanks(sum_, tile); });
}

}  // namespace shoal::forward
