#pragma once

// How fast a cut will be, from what its machines reach. Pure.

#include <cstdint>
#include <span>
#include <string_view>

#include "parallel/plan/plan.h"

namespace shoal::plan {

// Of all ranks together, measured while all of them work.
struct GroupSpeed {
  double read_bytes_per_second = 0;  // Memory, read end to end.
  double dot_ops_per_second = 0;     // Multiply-additions of the weights' format.
  double all_reduce_seconds = 0;     // Of one row's sums over a stage; 0 for a single rank.
};

struct SpeedPrediction {
  double decode_tokens_per_second = 0;  // One sequence with few tokens in the cache.
  double prefill_tokens_per_second = 0;
  // What takes the larger part of decode: "memory" or "exchange".
  std::string_view decode_bound;
};

// Bytes of weights that a rank reads for one row: all but the embedding, unless that is the head.
int64_t DecodeReadBytes(const model::Model& model, const RankShard& shard);

// Multiply-additions with a rank's weights for one prompt row, the head left out.
int64_t LayerMacs(const model::Model& model, const RankShard& shard);

// Decode: in every stage the slowest rank reads its weights at its part of the speed, and the ranks
// of a stage meet twice a layer. Prefill: in every stage the slowest rank multiplies at its part of
// the peak. Neither counts attention, norms or the reading of the cache: what is measured is less,
// and how much less says what the kernels lose.
SpeedPrediction PredictSpeed(const model::Model& model, std::span<const RankShard> shards,
                             const GroupSpeed& speed);

}  // namespace shoal::plan
