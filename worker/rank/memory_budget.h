#pragma once

// How much memory a rank needs and has, and how large its KV cache can be. Pure but for
// ReadAvailableBytes.

#include <cstdint>
#include <string_view>

#include "parallel/model/config.h"
#include "parallel/plan/plan.h"

namespace shoal::rank {

// Units: bytes.
struct MemoryNeeds {
  int64_t weights = 0;
  int64_t activations = 0;  // Scratch of a step, and the rope table.
  int64_t kv_per_token = 0;
  int64_t fixed() const { return weights + activations; }
};

struct StepShape {
  int32_t tensor_parallel = 1;
  int64_t rows_max = 0;  // Of one step: prompt rows and one for each sequence.
  int64_t context_tokens = 0;
  int32_t threads = 1;
};

MemoryNeeds ComputeNeeds(const model::ModelConfig& config, const plan::RankShard& shard,
                         const StepShape& shape);

// The default size of the KV cache: `wanted_tokens` if that takes at most half of what is free
// after the rest, else as much as does; in whole blocks. Errors: kInvalidArgument if the rest alone
// exceeds `bytes_available`, or if not even `least_tokens` fit in all that is free: it names the
// rank, the bytes needed, the bytes there, and what to change.
int64_t DefaultCacheTokens(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                           int64_t wanted_tokens, int64_t least_tokens);

// Errors: kInvalidArgument, as above, if everything together exceeds `bytes_available`.
void CheckMemory(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                 int64_t cache_tokens);

// "MemAvailable" of /proc/meminfo's text. Errors: kFailed if it is not there.
int64_t ParseAvailableBytes(std::string_view meminfo);
int64_t ReadAvailableBytes();

}  // namespace shoal::rank
