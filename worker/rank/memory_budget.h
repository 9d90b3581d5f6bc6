#pragma once

// How much memory a rank needs, and how large its KV cache can be. Pure.

#include <cstdint>

#include "parallel/model/model.h"
#include "parallel/plan/plan.h"

namespace shoal::rank {

// Units: bytes.
struct MemoryNeeds {
  int64_t weights = 0;
  int64_t activations = 0;  // Scratch of a step and of choosing tokens, and the rope table.
  int64_t kv_per_token = 0;
  int64_t fixed() const { return weights + activations; }
};

struct StepShape {
  plan::Cut cut;
  int64_t rows_max = 0;  // Of one step: prompt rows and one for each sequence.
  int64_t context_tokens = 0;
  int32_t threads = 1;
  bool fast = false;    // Sums cross the cut as floats.
  bool staged = false;  // The communicator copies what it sends, as MPI's does.
};

MemoryNeeds ComputeNeeds(const model::Model& model, const plan::RankShard& shard,
                         const StepShape& shape);

// What a KV cache is for.
struct CacheUse {
  int64_t context_tokens = 0;  // The longest sequence.
  int64_t sequences_max = 0;
  int64_t tokens_least = 0;  // With fewer the rank does not start.
  int64_t bytes_max = 0;     // --kv-cache-bytes-max; 0: none was given.
};

// Without a bound of the user's, the cache takes so much, or as much as the weights if they are
// more, or one sequence of full length: what a person who starts a model of that size expects.
constexpr int64_t kDefaultCacheBytes = int64_t{1} << 30;

// The default size of the KV cache in tokens, whole blocks: what all sequences need at full length,
// bounded by bytes_max or kDefaultCacheBytes as above, and by half of what is free after the rest.
// Errors: kInvalidArgument if tokens_least exceed bytes_max, or all that is free: it names the
// rank, the bytes needed, the bytes there, and what to change.
int64_t DefaultCacheTokens(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                           const CacheUse& use);

// Errors: kInvalidArgument, as above, if a cache of so many tokens exceeds bytes_max (unless 0), or
// everything together `bytes_available`.
void CheckMemory(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                 int64_t cache_tokens, int64_t bytes_max);

}  // namespace shoal::rank
