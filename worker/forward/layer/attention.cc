#include "worker/forward/layer/attention.h"

#include <array>

namespace shoal::forward {

Attention::Attention(const LayerOps& ops, const model::Model& model, const LayerWeights& weights,
                     LayerPlace place, const std::optional<RowParallelSum>& before)
    : ops_(ops),
      weights_(weights),
      place_(place),
      before_(before),
      input_(
          MakeNormedInput(weights.attention_norm,
                          std::array{weights.query.dtype, weights.key.dtype, weights.value.dtype})),
      sum_(MakeRowParallelSum(weights.attention_output,
                              model.leaves().heads_per_leaf * model.config().head_dim,
                              model.leaves().attention_leaf_count, place.in_model)) {}

void Attention::StoreKeysAndValues(const RowPass& pass) const {
  pass.AcrossRanks([this](const RowTile& tile) {
    ops_.AddAndNorm(before_, input_, place_.in_model, LayerInput::kAttention, tile);
  });
  pass.ForTiles([this](const RowTile& tile) {
    ops_.on_rank().ProjectQkv(weights_, tile,
                              MemoryOf(weights_.attention_output, weights_.attention_output));
    ops_.on_rank().RotateAndStore(place_.on_rank, tile);
  });
}

void Attention::Attend(const AttentionTile& tile, int32_t thread) const {
  ops_.on_rank().Attend(place_.on_rank, tile, thread);
}

void Attention::SumHeads(const RowPass& pass) const {
  pass.Run(ops_.MakesInputAcrossRanks(*sum_.weights), [this](const RowTile& tile) {
    ops_.SumOnRank(RowParallelInput::kHeads, sum_, tile, MemoryOf(weights_.gate, weights_.up));
  });
  pass.AcrossRanks([this](const RowTile& tile) { ops_.SumOverRanks(sum_, tile); });
}

}  // namespace shoal::forward
