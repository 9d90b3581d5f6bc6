#pragma once

// What must hold of a cluster after every event, seen from outside: by what the region says, and by
// what was done to it.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/promise/order_checker.h"
#include "tests/coordinator/core/net_sim/promise/outlier_checker.h"
#include "tests/coordinator/core/net_sim/world/clients.h"
#include "tests/coordinator/core/net_sim/world/group.h"

namespace shoal::core::net_sim {

class Checker {
 public:
  // All outlive it.
  Checker(Context& context, const Clients& clients, OverloadChecker& overload)
      : context_(context),
        clients_(clients),
        overload_(overload),
        order_(context),
        outliers_(context) {}

  // ---- What happens to a region, before its actions are observed.
  void NewRegion();
  void Registered(ConnectionId connection, const std::shared_ptr<FakeGroup>& group,
                  const RankRegistration& rank, const RegisterOutcome& outcome);
  // Updates come from that leader, before and after the region hears of them. `there`: its group
  // still is, and all of them were taken.
  void Updates(const std::vector<SequenceUpdate>& updates, const Region& region);
  void Updated(ConnectionId leader, uint64_t epoch, const std::vector<SequenceUpdate>& updates,
               bool there);
  // A tick, likewise.
  void Ticks(const Region& region);
  void Ticked(const Region& region);
  // Nothing new may be given to that leader.
  void Draining(ConnectionId leader, uint64_t epoch) { draining_.insert({leader, epoch}); }

  void Observe(const std::vector<Action>& actions, const Region& region);
  // A leader has said all that it knows. Before Observe of what comes of it.
  void Introduced(ConnectionId leader, uint64_t epoch, const Region& region);
  // Before the region hears of it.
  void HandsOver(const HeldStream& held, const Region& region);
  // After Observe of what came of it: the region goes on with the stream there, or cancels it
  // there.
  void HandedOver(const HeldStream& held, ConnectionId leader, uint64_t epoch,
                  const Region& region);
  // After every event.
  void Check(const Region& region);
  // Now and then: nothing is kept for longer than it may be.
  void CheckIdle(const Region& region);

  // Streams of that key that wait for their first group.
  int64_t CountNew(const ModelKey& key) const;
  // As Clients::Justify.
  std::string FindNoReason(const ClientStream& stream, const StreamError& error) const;

 private:
  struct Member {  // A group as it registered.
    std::shared_ptr<FakeGroup> group;
    uint64_t epoch = 0;
    ConnectionId leader = 0;
    bool ready = false;
  };
  struct Place {
    uint64_t group = 0;
    uint64_t epoch = 0;
    SequenceId sequence = 0;
  };
  struct Known {  // What the region must know of a stream.
    size_t tokens = 0;
    size_t prompt_logprobs = 0;
    size_t prompt_logprobs_perhaps = 0;  // By a message that ended its group.
    std::optional<Place> place;
    bool was_placed = false;
    int32_t groups_had = 0;  // That were given it, and had room for it.
    int32_t groups_lost = 0;
    std::optional<TimeNs> idle_since;  // Without a listener.
  };

  void Observe(const SubmitAction& submit, const Region& region);
  void ObserveStream(const SubmitAction& submit, uint64_t number, const Member& member,
                     const Region& region);
  void Observe(const CancelAction& cancel);
  void Observe(const StopAction& stop);
  void Observe(const GroupReadyAction& ready);
  void Observe(const GroupLostAction& lost);
  void Observe(const JournalAction& journal, const Region& region);
  void Apply(const std::vector<SequenceUpdate>& updates);
  // A group ended a sequence.
  void NoteOutcome(uint64_t number, bool well, bool sure);
  void CheckStatus(const Region& region);
  bool IsShared(StreamId id, const Region& region) const;
  void CheckForgotten(StreamId id, const Known& known, const Region& region);
  // What was given to that group is not there any more.
  void Displace(uint64_t number, bool is_lost);
  void DisplaceEpoch(uint64_t epoch);
  // The number of the group with that leader; none if it is gone.
  std::optional<uint64_t> FindNumber(ConnectionId leader, uint64_t epoch) const;
  void NoteReady(const Region& region);

  Context& context_;
  const Clients& clients_;
  OverloadChecker& overload_;
  OrderChecker order_;
  OutlierChecker outliers_;
  // Of all regions.
  std::map<uint64_t, uint64_t> epochs_;  // Of each group id, the newest.
  uint64_t epoch_max_ = 0;
  std::map<SequenceId, StreamId> sequences_;
  std::set<SequenceId> ever_cancelled_;
  // Of this one.
  std::map<uint64_t, Member> members_;  // By number.
  std::set<std::pair<ConnectionId, uint64_t>> draining_;
  std::map<StreamId, Known> known_;
  std::map<SequenceId, StreamId> placed_;
  RegionStatus status_;  // As it was looked at last.
  int64_t ticks_ = 0;
  struct Outcome {
    bool well;
    bool sure;
  };
  std::vector<Outcome> outcomes_;               // Of the updates that come.
  double waiting_ = 0;                          // As a breaker counts, before a tick.
  int64_t placed_count_ = 0;                    // Streams given to groups since.
  std::set<StreamId> must_take_;                // Of those that are being handed over.
  std::set<SequenceId> cancelled_;              // By the last actions.
  std::map<StreamId, int32_t> groups_lost_of_;  // Of streams that the last actions ended.
  std::map<ModelKey, std::map<int64_t, TimeNs>>
      ready_at_;  // By KV cache tokens, when there last was one.
};

}  // namespace shoal::core::net_sim
