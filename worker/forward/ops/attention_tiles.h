#pragma once

// How the attention of a step's rows is divided among threads.

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/plan/plan.h"
#include "worker/forward/rows/layer_flow.h"
#include "worker/forward/rows/step_rows.h"

namespace shoal::forward {

// The attention of some consecutive rows of one sequence to one key/value head.
struct AttentionTile {
  plan::Range rows;
  int64_t kv_head;    // Of this rank's, from 0.
  plan::Range heads;  // This rank's query heads that read it, from 0.
};

// The same in every layer of a step.
class AttentionTiles {
 public:
  // `head_group`: query heads that read the same key/value head.
  AttentionTiles(const plan::RankShard& shard, int64_t head_group)
      : heads_(shard.heads), kv_heads_(shard.kv_heads), head_group_(head_group) {}

  // Cost: no memory, once it has been called for the largest step.
  void List(const StepRows& rows);

  const AttentionTile& operator[](int64_t index) const { return tiles_[index]; }
  // What each reads. Blocks may be shared: then a tile reads what rows of other items, which come
  // before, store in the same step. And it goes through whole blocks, in which there are keys of
  // its item's next rows too.
  std::span<const LayerFlow::Call> calls() const { return calls_; }

 private:
  const plan::Range heads_;
  const plan::Range kv_heads_;
  const int64_t head_group_;
  std::vector<AttentionTile> tiles_;
  std::vector<LayerFlow::Call> calls_;
};

}  // namespace shoal::forward
