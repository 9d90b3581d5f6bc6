#pragma once

// What is said of groups of ranks: by the ranks to their coordinator, and by the coordinator to
// whoever asks how its region is doing.

#include <cstdint>
#include <string>
#include <vector>

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

// What the coordinator makes of it.
struct RegisterOutcome {
  enum class Kind : uint8_t {
    kAccepted,
    kRetry,     // Not now.
    kMismatch,  // Never, as it is.
    kStale,     // The group was given up already.
  };
  Kind kind = Kind::kAccepted;
  std::string message{};  // Why not.
  uint64_t epoch = 0;
  uint64_t group = 0;
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

// A model that is served, in one version; the same for all its groups.
struct ServedModel {
  std::string name{};           // What clients call it.
  std::string numerics_id{};    // 32 hex digits; empty until the first group has joined.
  int64_t context_tokens = 0;   // Longest prompt plus answer.
  int64_t kv_cache_tokens = 0;  // Of the largest group that is ready: a request that needs more is
                                // never accepted. 0 while there is none.
  int32_t vocab_size = 0;       // Token ids are below it. 0 until the first group has joined.
  int64_t requests_max = 0;  // Most requests that can be held at once, running and waiting, by all
                             // that are ready. 0 while there is none.
  std::string model_name{};  // Its own, as its groups register it.
  std::string canary_digest{};  // Of the groups that are or were ready. Empty: none was yet.
  int64_t groups_ready = 0;
  int64_t requests_waiting = 0;  // In the coordinator's own queue.

  bool operator==(const ServedModel&) const = default;
};

struct GroupStatus {
  uint64_t group = 0;
  uint64_t epoch = 0;
  std::string name{};        // Host, ranks and cut, for people.
  std::string model_name{};  // Its own, never the served name.
  std::string numerics_id{};
  int32_t tensor_parallel = 0;
  int32_t pipeline_parallel = 0;
  std::vector<std::string> ranks{};  // One line each: host, pid, instruction set, threads.
  bool ready = false;
  SchedulerStats stats{};

  bool operator==(const GroupStatus&) const = default;
};

struct RegionStatus {
  std::vector<GroupStatus> groups{};
  // Every version of every model: the region's own model first, and of each name first the version
  // that takes new requests.
  std::vector<ServedModel> models{};
  // kSchedulerCounters, of all groups that were ever here, each from its first update on: they
  // never fall. The other fields are 0.
  SchedulerStats totals{};
  int32_t requests_waiting = 0;  // In the coordinator's own queue.
  int64_t requests_total = 0;
  int64_t streams_live = 0;
  int64_t group_losses_total = 0;

  bool operator==(const RegionStatus&) const = default;
};

}  // namespace shoal
