#include "parallel/plan/kv_layout.h"

// From the widths of keys and values to places in a block.

namespace shoal::plan {

KvLayout MakeKvLayout(std::span<const model::KvWidths> layers, int64_t kv_head_count,
                      KvDType dtype) {
  const auto bytes = [&](int64_t width) {
    return width * ElementBytes(dtype) + KvScaleBytes(dtype);
  };
  KvLayout layout;
  for (const model::KvWidths& widths : layers) {
    const KvLayout::Layer layer = {.offset = layout.block_stride,
                                   .key_bytes = bytes(widths.key),
                                   .value_bytes = bytes(widths.value)};
    layout.layers.push_back(layer);
    layout.block_stride += kv_head_count * layer.head_bytes();
  }
  return layout;
}

KvLayout MakeKvLayout(const model::Model& model, const RankShard& shard, KvDType dtype) {
  std::vector<model::KvWidths> widths;
  for (int64_t i = shard.layers.begin; i < shard.layers.end; ++i) {
    widths.push_back(model.tensors().layers[static_cast<size_t>(i)].spec.kv);
  }
  return MakeKvLayout(widths, shard.kv_heads.count(), dtype);
}

}  // namespace shoal::plan
