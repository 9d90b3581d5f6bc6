#pragma once

// What a group's leader reports of its scheduler with every update.

#include <cstdint>

namespace shoal {

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
  // Rows that sequences running and waiting have still to compute before their next token, and
  // tokens that they may still generate: what a request that comes now may have to wait for.
  int64_t prompt_rows_left = 0;
  int64_t tokens_left = 0;
  int64_t prompt_rows_total = 0;       // Computed, not found in the cache,
  int64_t generated_tokens_total = 0;  // and tokens that were chosen,
  int64_t busy_us_total = 0;           // in so many microseconds with at least one step under way.

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
    &SchedulerStats::accepted_tokens_total,
    &SchedulerStats::prompt_rows_total,
    &SchedulerStats::generated_tokens_total,
    &SchedulerStats::busy_us_total};

}  // namespace shoal
