#pragma once

// What a group of ranks tells the coordinator of itself: who the ranks are, and how the group is
// doing.

#include <cstdint>
#include <string>

namespace shoal {

// One rank's introduction. The ranks that were started together share group_id.
struct RankRegistration {
  uint64_t group_id = 0;  // Drawn at random by rank 0, then shared; never used again.
  int32_t rank = 0;
  int32_t size = 1;  // tensor_parallel * pipeline_parallel.
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  std::string host;
  int64_t pid = 0;
  std::string isa;  // "avx512vnni"
  int32_t thread_count = 0;
  std::string model_name;   // The file's or folder's name without .gguf; never the served name.
  std::string numerics_id;  // 32 hex digits.
  int64_t context_tokens = 0;
  int64_t kv_cache_tokens = 0;     // Of the whole group: the longest sequence it can ever hold.
  int32_t sequences_max = 0;       // Sequences that a step can hold.
  int32_t queue_requests_max = 0;  // Requests that the leader takes beyond those.
  int32_t vocab_size = 0;          // Token ids are below it.

  bool operator==(const RankRegistration&) const = default;
};

// How the leader's scheduler stands after a step.
struct SchedulerStats {
  int64_t steps_total = 0;
  int32_t sequences_running = 0;
  int32_t requests_waiting = 0;
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks_total = 0;
  int64_t kv_blocks_kept = 0;  // Of those not used: what holds a prefix that may be found.
  int64_t prefix_cache_queries_total = 0;       // Sequences that looked for their prefix,
  int64_t prefix_cache_query_tokens_total = 0;  // their tokens,
  int64_t prefix_cache_hit_tokens_total = 0;    // and what was found of them.
  int64_t preemptions_total = 0;
  int64_t drafted_tokens_total = 0;   // Tokens that were guessed,
  int64_t accepted_tokens_total = 0;  // and those that were right.

  bool operator==(const SchedulerStats&) const = default;
};

// The fields of it that only grow while a group lives; the others are readings of the moment.
inline constexpr int64_t SchedulerStats::*kSchedulerCounters[] = {
    &SchedulerStats::steps_total,
    &SchedulerStats::prefix_cache_queries_total,
    &SchedulerStats::prefix_cache_query_tokens_total,
    &SchedulerStats::prefix_cache_hit_tokens_total,
    &SchedulerStats::preemptions_total,
    &SchedulerStats::drafted_tokens_total,
    &SchedulerStats::accepted_tokens_total};

}  // namespace shoal
