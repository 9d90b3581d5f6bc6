#pragma once

// What is said of groups of ranks: by the ranks to their coordinator, and by the coordinator to
// whoever asks how its region is doing.

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/generation/stream_error.h"
#include "transport/base/scheduler_stats.h"

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
  // The managed group whose place it takes if it was no member yet (--group-number); none: any.
  std::optional<uint64_t> group_number{};
  // The epoch of its last membership, whichever coordinator gave it; 0: none yet. A coordinator
  // that still has the group under it takes the rank back (RegisterOutcome::continued).
  uint64_t last_epoch = 0;

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
  // The group is where it was: sequences go on under their ids, and the leader sends again what it
  // does not know to have been taken (SequenceUpdate::tokens_before says what is known). Otherwise
  // a leader hands over what it holds (HeldStream) and cancels the rest.
  bool continued = false;
  int64_t orphan_grace_ms = 30'000;   // How long a leader holds streams without a coordinator.
  int64_t drain_timeout_ms = 30'000;  // How long a leader that was told to end waits to be drained.
};

// Why a group is not there any more. The names are labels of metrics.
enum class LossCause : uint8_t {
  kRankDied,     // A rank's connection broke and did not come back, or its process ended.
  kSilent,       // A rank's heartbeats stayed away: stopped, starved or cut off.
  kStuck,        // A rank had work and got nowhere.
  kWrongAnswer,  // Ranks held different bits, or a canary's digest was not the model's.
  kOutOfMemory,
  kProtocol,    // Its leader said what it must not say.
  kNeverReady,  // It did not join, or its canary did not end, in time.
  kDrained,     // No loss: it was asked to end.
};
constexpr int kLossCauses = 8;

// "rank_died", "silent", "stuck", "wrong_answer", "out_of_memory", "protocol", "never_ready",
// "drained".
std::string_view ToString(LossCause cause);

enum class GroupState : uint8_t {
  kForming,   // Not all ranks are there.
  kCanary,    // All are there; a canary is on its way through them.
  kReady,     // Takes requests.
  kDraining,  // Takes no more, and gives its streams away or ends them.
  kStopping,  // Dismissed; its connections are about to close.
  kLost,      // A managed group that is not there: about to be started anew, or drained.
};

// "forming", "canary", "ready", "draining" (kStopping too), "lost".
std::string_view ToString(GroupState state);

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

struct RankStatus {
  int32_t rank = 0;
  int64_t pid = 0;
  std::string host{};
  std::string isa{};
  int32_t threads = 0;
  std::string state{};   // "joined", "missing".
  std::string device{};  // "cpu".

  bool operator==(const RankStatus&) const = default;
};

struct GroupStatus {
  uint64_t group = 0;
  uint64_t epoch = 0;
  std::string name{};        // Host, ranks and cut, for people.
  std::string model_name{};  // Its own, never the served name.
  std::string numerics_id{};
  int32_t tensor_parallel = 0;
  int32_t pipeline_parallel = 0;
  std::vector<RankStatus> ranks{};  // All of them, by rank.
  GroupState state = GroupState::kForming;
  SchedulerStats stats{};
  bool managed = false;        // This coordinator starts it anew when it is lost.
  int64_t streams = 0;         // That it was given and that have not ended.
  std::string last_loss{};     // Why the last group of this number was lost; empty: none was.
  int64_t restarts_total = 0;  // Of a managed group.
  int64_t next_start_ms = -1;  // Of a managed group that waits to be started: from now on.
                               // -1: it does not wait.
  bool ejected = false;        // Left out of routing, or tried with one request at a time.

  bool operator==(const GroupStatus&) const = default;
};

struct BreakerStatus {
  std::string rule{};  // "gpu_utilization > 90: reject_low_priority"
  bool open = false;   // Half open too.

  bool operator==(const BreakerStatus&) const = default;
};

// Upper bounds of the buckets of RegionStatus::stalls.
inline constexpr double kStallSeconds[] = {0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30};

// Upper bounds of the buckets of WaitErrorStatus::counts.
inline constexpr double kWaitErrorRatios[] = {0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 2, 5};

// How far predicted waits for the first token were from what they came to, as a share of that.
struct WaitErrorStatus {
  // Not cumulative; the last one is of those above all bounds.
  std::array<int64_t, std::size(kWaitErrorRatios) + 1> counts{};
  double sum = 0;
  double median = 0;  // Of the last 512.

  bool operator==(const WaitErrorStatus&) const = default;
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
  int64_t requests_coalesced_total = 0;  // Of those: they got the answer of another one.
  int64_t streams_live = 0;
  int64_t group_losses_total = 0;                      // Of all causes.
  std::array<int64_t, kLossCauses> group_losses{};     // By LossCause; kDrained stays 0.
  std::array<int64_t, kLossCauses> streams_resumed{};  // By why the last group did not end them.
  // Streams that went on after another coordinator's end.
  int64_t streams_adopted_total = 0;
  int64_t group_restarts_total = 0;
  // How long a stream that was resumed brought nothing: from its last token before to its first
  // one after. Not cumulative; the last one is of those above all bounds.
  std::array<int64_t, std::size(kStallSeconds) + 1> stalls{};
  double stall_seconds_sum = 0;
  WaitErrorStatus wait_errors{};  // Not part of what is sent over RPC.
  std::vector<BreakerStatus> breakers{};
  std::array<int64_t, kBusyReasons> requests_rejected{};  // By BusyReason, before any work.

  bool operator==(const RegionStatus&) const = default;
};

}  // namespace shoal
