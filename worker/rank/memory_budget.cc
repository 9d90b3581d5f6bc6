// Counted before anything is allocated, so that a model that does not fit is a message and not a
// kill.

#include "worker/rank/memory_budget.h"

#include <algorithm>

#include "kernels/format/packed.h"
#include "transport/base/error.h"
#include "worker/engine/choice/sampler.h"
#include "worker/forward/activations.h"

namespace shoal::rank {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Of a staged communicator, in and out: its largest operation is a chunk's sums, in pieces of this.
constexpr int64_t kStagedBytesMax = 8 << 20;

int64_t WholeBlocks(int64_t tokens) { return tokens / kKvBlockTokens * kKvBlockTokens; }
int64_t WholeBlocksFor(int64_t tokens) { return WholeBlocks(tokens + kKvBlockTokens - 1); }

[[noreturn]] void ThrowTooLarge(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                                int64_t cache_tokens) {
  Throw(ErrorCode::kInvalidArgument, "rank ", rank, " needs ",
        needs.fixed() + cache_tokens * needs.kv_per_token, " bytes of memory (weights ",
        needs.weights, ", activations ", needs.activations, ", ", cache_tokens,
        " cached tokens of ", needs.kv_per_token, "), there are ", bytes_available,
        ": use more ranks, lower kv-cache-tokens, context-tokens-max or prefill-chunk-tokens, or "
        "raise memory-bytes-max");
}

void CheckBytesMax(int32_t rank, const MemoryNeeds& needs, int64_t cache_tokens,
                   int64_t bytes_max) {
  if (bytes_max == 0 || cache_tokens <= bytes_max / needs.kv_per_token) return;
  Throw(ErrorCode::kInvalidArgument, "rank ", rank, ": ", cache_tokens, " cached tokens of ",
        needs.kv_per_token, " bytes are needed, kv-cache-bytes-max is ", bytes_max,
        ": raise it, or lower kv-cache-tokens or context-tokens-max");
}

}  // namespace

MemoryNeeds ComputeNeeds(const model::Model& model, const plan::RankShard& shard,
                         const StepShape& shape) {
  const model::ModelConfig& config = model.config();
  const plan::Cut cut = shape.cut;
  MemoryNeeds needs;
  needs.weights = shard.weight_bytes;
  needs.activations = forward::Activations::MemoryBytes(model, shard, shape.rows_max, shape.threads,
                                                        cut.tensor_parallel, shape.fast) +
                      shape.context_tokens * config.head_dim * kFloat;
  // The first rank of the last stage chooses from whole vocabularies, on all threads.
  if (shard.rank == (cut.pipeline_parallel - 1) * cut.tensor_parallel) {
    needs.activations += shape.threads * engine::Sampler::MemoryBytes(config.vocab_size);
  }
  if (shape.staged && cut.rank_count() > 1) {
    const int64_t sums = shape.rows_max * (config.hidden_dim + forward::kFixedTail) * 8;
    needs.activations += 2 * std::min(sums, kStagedBytesMax);
  }
  needs.kv_per_token = shard.kv_bytes_per_token;
  return needs;
}

int64_t DefaultCacheTokens(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                           const CacheUse& use) {
  const int64_t free = bytes_available - needs.fixed();
  const int64_t least = WholeBlocksFor(use.tokens_least);
  CheckBytesMax(rank, needs, least, use.bytes_max);
  if (free < least * needs.kv_per_token) ThrowTooLarge(rank, needs, bytes_available, least);
  const int64_t one = WholeBlocksFor(use.context_tokens) * needs.kv_per_token;
  const int64_t bytes_max =
      use.bytes_max > 0 ? use.bytes_max : std::max({one, kDefaultCacheBytes, needs.weights});
  const int64_t most = WholeBlocks(std::min(bytes_max, free / 2) / needs.kv_per_token);
  return std::max(least, std::min(WholeBlocksFor(use.context_tokens * use.sequences_max), most));
}

void CheckMemory(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                 int64_t cache_tokens, int64_t bytes_max) {
  CheckBytesMax(rank, needs, cache_tokens, bytes_max);
  // Divided rather than multiplied: the number of tokens is the user's.
  const int64_t free = bytes_available - needs.fixed();
  if (free < 0 || cache_tokens > free / needs.kv_per_token) {
    ThrowTooLarge(rank, needs, bytes_available, cache_tokens);
  }
}

}  // namespace shoal::rank
