#pragma once

// The region as a state machine: what has happened goes in, what is to be done comes out. It has no
// sockets, threads or clock of its own, so the simulator runs the very code that production runs.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/group.h"
#include "transport/base/class_queue.h"
#include "transport/base/clock.h"
#include "transport/base/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

struct RegionOptions {
  std::string model_name;             // Groups must serve it. Empty: the first group decides.
  std::string served_model_name;      // What clients call it. Empty: its own name.
  int64_t context_tokens_max = 0;     // Caps what the groups offer. 0: no cap.
  int32_t queue_requests_max = 1024;  // Requests that wait here while all groups are full.
  int64_t heartbeat_ms = 100;
  // A rank that has been silent for heartbeat_ms x this is lost. A rank that dies is noticed by its
  // connection, at once; this is for one that is stopped or unreachable. 20 (2 s) rather than 4,
  // because on a machine with more busy ranks than cores a live rank's heartbeat can be late by
  // half a second, and a group taken out by mistake costs all its streams.
  int32_t heartbeats_missed_max = 20;
  int64_t progress_timeout_ms = 30'000;  // Work pending, yet progress stands still: the rank hangs.
  int64_t join_timeout_ms = 60'000;      // From a group's first rank to its canary token.
  std::vector<int32_t> canary_prompt = {1, 2, 3};
};

// What the shell must do, in order.
struct SubmitAction {
  ConnectionId leader;
  uint64_t epoch;
  StreamId stream;
  std::vector<int32_t> prompt;
  GenerationParams params;
};
struct CancelAction {
  ConnectionId leader;
  uint64_t epoch;
  StreamId stream;
};
struct StopAction {
  ConnectionId leader;
  uint64_t epoch;
};
struct CloseAction {
  ConnectionId connection;
  std::string why;
};
struct DeliverAction {  // update.finish says whether it is the stream's last.
  StreamId stream;
  SequenceUpdate update;
};
struct FailAction {  // The stream's last.
  StreamId stream;
  StreamError error;
};
struct GroupReadyAction {
  uint64_t group;
  std::string name;
};
struct GroupLostAction {
  uint64_t group;
  std::string why;
};
using Action = std::variant<SubmitAction, CancelAction, StopAction, CloseAction, DeliverAction,
                            FailAction, GroupReadyAction, GroupLostAction>;

struct RegisterOutcome {
  enum class Kind : uint8_t {
    kAccepted,
    kRetry,     // Not now.
    kMismatch,  // Never, as it is.
    kStale,     // The group was given up already.
  };
  Kind kind = Kind::kAccepted;
  std::string message;
  uint64_t epoch = 0;
  uint64_t group = 0;
};

// Threading: none; owned by the coordinator's event loop.
class Region {
 public:
  Region(RegionOptions options, const Clock& clock);

  // ---- Events from ranks. Those with an epoch return false, and change nothing, if the connection
  // has no rank of that epoch (any more): the shell refuses the message.
  RegisterOutcome Register(ConnectionId connection, const RankRegistration& rank);
  [[nodiscard]] bool Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress,
                               bool pending);
  [[nodiscard]] bool Update(ConnectionId connection, uint64_t epoch,
                            std::vector<SequenceUpdate> updates, const SchedulerStats& stats);
  void Disconnected(ConnectionId connection, const std::string& why);

  // ---- Events from gateways. A stream that was taken ends with exactly one DeliverAction whose
  // update has a finish, or one FailAction, or Cancel.
  // The prompt is not empty and its ids are in the vocabulary.
  StreamId Submit(std::vector<int32_t> prompt, const GenerationParams& params, StreamError& error);
  void Cancel(StreamId stream);

  // Time has passed: call about every heartbeat_ms. A longer gap is the coordinator's own delay and
  // is not held against the ranks, whose heartbeats may lie unread in the sockets.
  void Tick();

  // Takes no more requests, ends all streams with kDraining and dismisses all groups.
  void Stop();

  // What is to be done since the last call.
  std::vector<Action> TakeActions();
  bool has_actions() const { return !actions_.empty(); }

  ServedModel model() const;
  RegionStatus status() const;
  size_t groups_ready() const;

  // ---- For the invariants (tests/coordinator/core_support.h).
  struct Stream {
    std::vector<int32_t> prompt;  // Handed on, and empty, once the stream has a group.
    GenerationParams params;
    int64_t tokens_needed = 0;         // Prompt and answer at their longest.
    std::optional<uint64_t> group;     // None: waiting.
    int64_t prompt_logprobs_left = 0;  // Positions that its leader has not reported.
  };
  const std::map<uint64_t, Group>& groups() const { return groups_; }
  const std::map<StreamId, Stream>& streams() const { return streams_; }
  const ClassQueue<StreamId>& waiting() const { return waiting_; }
  const RegionOptions& options() const { return options_; }

 private:
  struct RankPlace {
    uint64_t group;
    int32_t rank;
  };

  RegisterOutcome FindRefusal(const RankRegistration& rank, const Group* group) const;
  Group* FindGroupById(uint64_t group_id);
  Group& AddGroup(const RankRegistration& rank);
  // The rank behind a connection, if it is still there and of that epoch.
  GroupRank* FindRank(ConnectionId connection, uint64_t epoch);
  void StartCanary(Group& group);
  void ApplyCanary(Group& group, const SequenceUpdate& update);
  // What is wrong with an update; empty if nothing.
  std::string FindFault(const Group& group, const SequenceUpdate& update) const;
  void ApplyUpdate(Group& group, SequenceUpdate update);
  void ApplyStats(Group& group, const SchedulerStats& stats);
  void LoseGroup(uint64_t number, const std::string& why);
  void RemoveGroup(std::map<uint64_t, Group>::iterator group);
  void FailStream(StreamId stream, BusyReason reason, const std::string& message);
  // Fails what waits for a group that no longer exists, then hands out what fits.
  void Dispatch();
  Group* ChooseGroup(int64_t tokens);
  int64_t ContextTokens() const;
  int64_t LargestKvCacheTokens() const;
  int64_t RequestsMax() const;

  const RegionOptions options_;
  const Clock& clock_;
  TimeNs last_tick_;
  bool stopping_ = false;
  uint64_t next_epoch_ = 1;
  StreamId next_stream_ = 1;
  std::map<uint64_t, Group> groups_;  // By number.
  std::map<ConnectionId, RankPlace> ranks_;
  std::map<StreamId, Stream> streams_;  // Every stream that has not ended; canaries are not in it.
  ClassQueue<StreamId> waiting_;        // At most queue_requests_max. The ids are the arrivals.
  std::deque<uint64_t> lost_ids_;       // Group ids given up lately, so that stragglers hear of it.
  std::optional<RankRegistration> model_;  // What all groups must agree with.
  bool model_proven_ = false;              // Some group of that model has been ready.
  std::vector<Action> actions_;
  int64_t requests_total_ = 0;
  int64_t group_losses_total_ = 0;
  SchedulerStats totals_;  // As in RegionStatus.
};

}  // namespace shoal::core
