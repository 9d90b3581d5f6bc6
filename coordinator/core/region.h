#pragma once

// The region as a state machine: what has happened goes in, what is to be done comes out. It has no
// sockets, threads, clock or chance of its own, so the simulator runs the very code that production
// runs.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/actions.h"
#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/groups/health.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/generation_state.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/streams/suspects.h"
#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// Composes the parts: groups, their health, streams, and the decisions of catalog.h, admission.h
// and routing.h. Threading: none; owned by the coordinator's event loop.
class Region {
 public:
  // `random`: 64 bits that nobody can guess, for the ids of streams. `clock` outlives the region.
  Region(RegionOptions options, const Clock& clock, std::function<uint64_t()> random);
  Region(const Region&) = delete;

  // ---- Events from ranks. Those with an epoch return false, and change nothing, if the connection
  // has no rank of that epoch (any more): the shell refuses the message.
  RegisterOutcome Register(ConnectionId connection, const RankRegistration& rank);
  [[nodiscard]] bool Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress,
                               bool pending);
  [[nodiscard]] bool Update(ConnectionId connection, uint64_t epoch,
                            std::vector<SequenceUpdate> updates, const SchedulerStats& stats);
  void Disconnected(ConnectionId connection, const std::string& why);

  // ---- Events from gateways (region/placing.cc). A stream that was taken ends with exactly one
  // DeliverAction whose update has a finish, or one FailAction, or Cancel.
  std::variant<StreamId, StreamError> Submit(Request request);
  void Cancel(StreamId stream);

  // Time has passed: call about every heartbeat_ms.
  void Tick();

  // Takes no more requests, ends all streams with kDraining and dismisses all groups.
  void Stop();

  // What is to be done since the last call.
  std::vector<Action> TakeActions();
  bool has_actions() const { return !actions_.empty(); }

  std::vector<ServedModel> models() const;
  RegionStatus status() const;
  size_t groups_ready() const;

  const GroupMap& groups() const { return groups_.all(); }
  const StreamMap& streams() const { return streams_.all(); }
  const RegionOptions& options() const { return options_; }

  // What has gone wrong in here; empty if nothing (invariants.h). Tick looks now and then, and ends
  // the process rather than serve from a state that cannot be.
  std::string FindBrokenInvariant() const;

 private:
  // The group of a connection's rank, if it is still there and of that epoch.
  Group* FindGroup(ConnectionId connection, uint64_t epoch);

  // ---- region/updates.cc
  void StartCanary(Group& group);
  void ApplyCanary(Group& group, SequenceUpdate update);
  // What is wrong with an update.
  std::optional<UpdateFault> FindFault(const Group& group, const SequenceUpdate& update);
  void ApplyUpdate(Group& group, SequenceUpdate update);
  // Its leader does not go on with the stream.
  void ApplyRefusal(const Group& group, StreamId id, const SequenceUpdate& update);
  // The stream shows that it lives.
  void NoteToken(Stream& stream);

  void LoseGroup(Group& group, LossCause cause, const std::string& why);
  void RemoveGroup(uint64_t number, const std::string& why);

  // ---- region/placing.cc
  // The stream's group is no more: it waits for another one, unless it may be the cause.
  void LoseStreamsGroup(StreamId id, Parked why);
  void FailStream(StreamId id, StreamError error);
  // Forgets it: its last action is made.
  void EndStream(StreamId id);
  // Hands out what waits for groups of that key and fits.
  void Dispatch(const ModelKey& key);
  void Place(StreamId id, Group& group);
  // No group that is ready could ever hold what waits.
  void Strand(StreamId id, Stream& stream);
  void FailStranded();
  StreamError StrandedError(const Stream& stream) const;

  const RegionOptions options_;
  const Clock& clock_;
  bool stopping_ = false;
  Groups groups_;
  Health health_;
  Streams streams_;
  Suspects suspects_;
  std::vector<Action> actions_;
  int64_t ticks_total_ = 0;
  RegionStatus counts_;  // Only what it counts; the rest is read off when it is asked for.
};

}  // namespace shoal::core
