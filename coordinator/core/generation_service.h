#pragma once

// What the gateways (HTTP, RPC) need from a region: submit a generation, hear of its tokens, cancel
// it.

#include <compare>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// 128 random bits: no other stream has them, of this region or of another.
struct StreamId {
  uint64_t high = 0;
  uint64_t low = 0;

  auto operator<=>(const StreamId&) const = default;
};
// 32 hex digits.
std::ostream& operator<<(std::ostream& out, const StreamId& id);

// What a client asks for. Its service class is params.priority.
struct Request {
  std::vector<int32_t> prompt;  // Not empty, and its ids are in the model's vocabulary.
  GenerationParams params;
  std::string model{};        // As clients call it. Empty: the region's own.
  std::string numerics_id{};  // Empty: whichever version of it takes new requests.

  bool operator==(const Request&) const = default;
};

// Why a request was not taken, or why a stream ended early. The names are part of the HTTP
// interface.
enum class BusyReason : uint8_t {
  kQueueFull,
  kNoGroup,
  kGroupLost,
  kTooLarge,
  kDraining,
  kRefused,  // By the leader of a group that this coordinator had thought fit.
};

// "queue_full", "no_group", "group_lost", "too_large", "draining", "refused".
std::string_view ToString(BusyReason reason);

struct StreamError {
  BusyReason reason;
  std::string message;
  int64_t retry_after_ms = 0;  // 0: do not retry as is.
};

// With the time after which that reason may have gone.
StreamError MakeStreamError(BusyReason reason, std::string message);

// Owned by whoever submitted; must live until OnFinish, OnError or Cancel.
class StreamListener {
 public:
  virtual ~StreamListener() = default;
  // Zero or more tokens; finish is kNone. Updates are small: the log-probabilities of a long prompt
  // come in several, before the first token.
  virtual void OnTokens(const SequenceUpdate& update) = 0;
  // The last update; may carry tokens too. Nothing follows.
  virtual void OnFinish(const SequenceUpdate& update) = 0;
  // The stream cannot continue. Nothing follows.
  virtual void OnError(const StreamError& error) = 0;
};

// A model that is served, in one version; the same for all its groups.
struct ServedModel {
  std::string name;             // What clients call it.
  std::string numerics_id;      // 32 hex digits; empty until the first group has joined.
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
};

// The version of the model of that name that takes new requests; of the region's own if the name is
// empty. Null if none of that name is served.
const ServedModel* FindModel(const std::vector<ServedModel>& models, const std::string& name);
// "little, large": each name once.
std::string JoinNames(const std::vector<ServedModel>& models);

// For /metrics and `shoal status`.
struct GroupStatus {
  uint64_t group = 0;
  uint64_t epoch = 0;
  std::string name;        // host, ranks and cut, for people
  std::string model_name;  // Its own, never the served name.
  std::string numerics_id;
  int32_t tensor_parallel = 0;
  int32_t pipeline_parallel = 0;
  std::vector<std::string> ranks;  // One line each: host, pid, instruction set, threads.
  bool ready = false;
  SchedulerStats stats;
};

struct RegionStatus {
  std::vector<GroupStatus> groups;
  std::vector<ServedModel> models;  // As GenerationService::models.
  // kSchedulerCounters, of all groups that were ever here, each from its first update on: they
  // never fall. The other fields are 0.
  SchedulerStats totals;
  int32_t requests_waiting = 0;  // In the coordinator's own queue.
  int64_t requests_total = 0;
  int64_t streams_live = 0;
  int64_t group_losses_total = 0;
};

// Threading: the coordinator's event loop.
class GenerationService {
 public:
  virtual ~GenerationService() = default;

  // Takes the request, or says why not (then `listener` hears nothing). The listener is called
  // later, never from inside Submit.
  virtual std::variant<StreamId, StreamError> Submit(Request request, StreamListener& listener) = 0;

  // The listener hears nothing more. Unknown ids are ignored.
  virtual void Cancel(StreamId stream) = 0;

  // Every version of every model that is served: the region's own model first, and of each name
  // first the version that takes new requests. Never empty: the region's own is there before its
  // first group.
  virtual std::vector<ServedModel> models() const = 0;
  virtual RegionStatus status() const = 0;
};

}  // namespace shoal::core
