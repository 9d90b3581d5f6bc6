#include "worker/forward/layer/layer_ops.h"

#include <bit>

namespace shoal::forward {
namespace {

// What a planted fault flips: bits that no rounding of a residual swallows. Fixed-point sums have
// 32 bits after the point.
constexpr int64_t kFlippedBit = int64_t{1} << 31;
constexpr uint32_t kFlippedFloatBit = 1U << 25;

}  // namespace

void LayerOps::AddAndNormOwn(const RowParallelSum& sum, const NormedInput* input,
                             const RowTile& tile) const {
  if (exchange_.fast()) return ops_.AddRoundedAndNorm(sum, input, tile);
  ops_.AddAndNorm(sum, input, tile);
}

void LayerOps::AddAndNorm(const std::optional<RowParallelSum>& sum, const NormedInput& input,
                          int64_t layer, LayerInput which, const RowTile& tile) const {
  const RowTile own = tile.Within(exchange_.own_rows());
  sum ? AddAndNormOwn(*sum, &input, own) : ops_.Norm(input, own);
  if (on_input_ && own.rows.count() > 0) {
    on_input_(layer, which, ops_.NormedOf(own), ops_.hidden_dim());
  }
  exchange_.GatherInput(input.readers, activations_.all);
}

void LayerOps::Add(const RowParallelSum& sum, const RowTile& tile) const {
  AddAndNormOwn(sum, nullptr, tile.Within(exchange_.own_rows()));
}

void LayerOps::SumOnRank(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                         std::span<const std::byte> next) const {
  const PackedMatrix& weights = *sum.weights;
  if (MakesInputAcrossRanks(weights)) {
    ops_.MeasureInput(input, weights, tile);
    exchange_.MaxRows(activations_.largest_bits.data());
    ops_.QuantizeMeasured(input, weights, tile);
  } else {
    ops_.MakeInput(input, weights, tile);
  }
  if (on_input_) {
    const LayerInput which =
        input == RowParallelInput::kHeads ? LayerInput::kAttentionOutput : LayerInput::kDown;
    on_input_(sum.layer, which, ops_.InputOf(input, weights.cols, tile), weights.cols);
  }
  ops_.SumLeaves(input, sum, tile, next);
}

void LayerOps::SumOverRanks(const RowParallelSum& sum, const RowTile& tile) const {
  if (exchange_.ranks() > 1) ExchangeSums(sum, tile);
  if (fault_.TakesSum(sum.layer)) [[unlikely]]
    FlipBit(tile);
}

void LayerOps::FlipBit(const RowTile& tile) const {
  const int64_t width = ops_.hidden_dim() + kFixedTail;
  const int64_t row = tile.Within(exchange_.own_rows()).rows.begin - tile.shared.begin;
  if (exchange_.fast()) {
    float& sum = activations_.float_sums[row * width];
    sum = std::bit_cast<float>(std::bit_cast<uint32_t>(sum) ^ kFlippedFloatBit);
  } else {
    tile.shared.rows->fixed[row * width] ^= kFlippedBit;
  }
}

void LayerOps::ExchangeSums(const RowParallelSum& sum, const RowTile& tile) const {
  const int64_t width = ops_.hidden_dim() + kFixedTail;
  if (!exchange_.fast()) return exchange_.SumRows(activations_.all.fixed.data(), width);
  ops_.RoundSums(sum, tile);
  exchange_.SumRows(activations_.float_sums.data(), width);
}

}  // namespace shoal::forward
