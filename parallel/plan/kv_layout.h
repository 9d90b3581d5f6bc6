#pragma once

// How a block of a rank's KV cache, 32 positions of all its layers and key/value heads, is laid
// out.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/format/packed.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"

namespace shoal::plan {

// Units: bytes.
struct KvLayout {
  // Layers of different kinds of attention may differ.
  struct Layer {
    int64_t offset = 0;     // Of the first head within the block; the others follow.
    int64_t key_bytes = 0;  // Of a position of a head, with its scale.
    int64_t value_bytes = 0;
    int64_t head_bytes() const { return kKvBlockTokens * (key_bytes + value_bytes); }
  };

  std::vector<Layer> layers;  // Those of the rank.
  int64_t block_stride = 0;   // From a block to the next.
  int64_t token_bytes() const { return block_stride / kKvBlockTokens; }
};

KvLayout MakeKvLayout(std::span<const model::KvWidths> layers, int64_t kv_head_count,
                      KvDType dtype);

// Of the shard's layers and key/value heads.
KvLayout MakeKvLayout(const model::Model& model, const RankShard& shard, KvDType dtype);

}  // namespace shoal::plan
