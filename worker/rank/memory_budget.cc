// Counted before anything is allocated, so that a model that does not fit is a message and not a
// kill.

#include "worker/rank/memory_budget.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/cpu/table.h"
#include "kernels/format/packed.h"
#include "transport/base/error.h"
#include "worker/forward/activations.h"

namespace shoal::rank {
namespace {

constexpr int64_t kFloat = sizeof(float);

int64_t WholeBlocks(int64_t tokens) { return tokens / kKvBlockTokens * kKvBlockTokens; }

[[noreturn]] void ThrowTooLarge(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                                int64_t cache_tokens) {
  Throw(ErrorCode::kInvalidArgument, "rank ", rank, " needs ",
        needs.fixed() + cache_tokens * needs.kv_per_token, " bytes of memory (weights ",
        needs.weights, ", activations ", needs.activations, ", ", cache_tokens,
        " cached tokens of ", needs.kv_per_token, "), there are ", bytes_available,
        ": use more ranks, lower kv-cache-tokens, context-tokens-max or prefill-chunk-tokens, or "
        "raise memory-bytes-max");
}

}  // namespace

MemoryNeeds ComputeNeeds(const model::ModelConfig& config, const plan::RankShard& shard,
                         const StepShape& shape) {
  const int64_t query = shard.heads.count() * config.head_dim;
  const int64_t kv = shard.kv_heads.count() * config.head_dim;
  const int64_t mlp = shard.mlp_columns.count();
  const int64_t widest = std::max({config.hidden_dim, query, mlp});
  // As worker/forward/activations.h lists them. Between the matrices: normed, gate and up, the
  // input quantised in groups of 32 and of 16, with their scales and sums, and the fixed-point
  // sums; of all rows, and of the parts that threads take.
  const int64_t layer_row = kFloat * (config.hidden_dim + 2 * mlp) + widest * 11 / 4 +
                            8 * (config.hidden_dim + forward::kFixedTail);
  const bool has_parts = forward::PartCount(shape.rows_max, shape.threads) > 1;
  const int64_t part_rows = has_parts ? shape.threads * forward::kPartRows : 0;
  // Residual, query and attention, key and value, three counts.
  const int64_t row = kFloat * (config.hidden_dim + 2 * query + 2 * kv) + 3 * 8;
  // Logits of up to 16 rows: this rank's, all ranks' as they arrive, and put together.
  const int64_t gathered = shape.tensor_parallel > 1 ? 2 : 1;
  const int64_t logits = 16 * kFloat * (shard.vocab_rows.count() + gathered * config.vocab_size);
  const int64_t scratch =
      shape.threads * kFloat *
      cpu::AttentionScratchFloats(config.head_dim, config.head_count / config.kv_head_count);
  MemoryNeeds needs;
  needs.weights = shard.weight_bytes;
  needs.activations = shape.rows_max * row + (shape.rows_max + part_rows) * layer_row + logits +
                      scratch + shape.context_tokens * config.head_dim * kFloat;
  needs.kv_per_token = shard.kv_bytes_per_token;
  return needs;
}

int64_t DefaultCacheTokens(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                           int64_t wanted_tokens, int64_t least_tokens) {
  const int64_t free = bytes_available - needs.fixed();
  const int64_t least = (least_tokens + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
  if (free < least * needs.kv_per_token) ThrowTooLarge(rank, needs, bytes_available, least);
  const int64_t wanted = (wanted_tokens + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
  return std::max(least, std::min(wanted, WholeBlocks(free / 2 / needs.kv_per_token)));
}

void CheckMemory(int32_t rank, const MemoryNeeds& needs, int64_t bytes_available,
                 int64_t cache_tokens) {
  // Divided rather than multiplied: the number of tokens is the user's.
  const int64_t free = bytes_available - needs.fixed();
  if (free < 0 || cache_tokens > free / needs.kv_per_token) {
    ThrowTooLarge(rank, needs, bytes_available, cache_tokens);
  }
}

int64_t ParseAvailableBytes(std::string_view meminfo) {
  constexpr std::string_view kKey = "MemAvailable:";
  const size_t at = meminfo.find(kKey);
  if (at != std::string_view::npos) {
    std::string_view rest = meminfo.substr(at + kKey.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    int64_t kibibytes = 0;
    const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), kibibytes);
    if (result.ec == std::errc()) return kibibytes * 1024;
  }
  Throw(ErrorCode::kFailed, "/proc/meminfo: expected a line 'MemAvailable: N kB', found none");
}

int64_t ReadAvailableBytes() {
  std::ifstream file("/proc/meminfo");
  return ParseAvailableBytes(std::string(std::istreambuf_iterator<char>(file), {}));
}

}  // namespace shoal::rank
