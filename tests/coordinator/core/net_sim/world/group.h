#pragma once

// A group of ranks as processes: they dial, register, send heartbeats, work, and fail in every way
// that processes do.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/net/link.h"
#include "tests/coordinator/core/net_sim/world/leader.h"

namespace shoal::core::net_sim {

class FakeGroup;

// The coordinator's side of the ranks' connections.
class RankDoor {
 public:
  virtual ~RankDoor() = default;
  // Null: nobody listens.
  virtual std::shared_ptr<Link> Dial(const std::shared_ptr<FakeGroup>& group, int32_t rank) = 0;
  // What arrives on a link that Dial made. `said` of updates: what is wrong with them on purpose.
  virtual void OnRegister(Link& link, const RankRegistration& rank) = 0;
  virtual void OnHeartbeat(Link& link, uint64_t epoch, uint64_t progress, bool pending) = 0;
  virtual void OnUpdate(Link& link, uint64_t epoch, std::vector<SequenceUpdate> updates,
                        bool is_lie) = 0;
  virtual void OnHandOver(Link& link, uint64_t epoch, std::vector<HeldStream> streams,
                          bool last) = 0;
  virtual void OnDrain(Link& link, uint64_t epoch) = 0;
  virtual void OnFault(Link& link, uint64_t epoch, LossCause cause) = 0;
};

class FakeGroup : public std::enable_shared_from_this<FakeGroup> {
 public:
  // All outlive it but for what runs under shared_from_this. `ended`: all its processes are gone.
  FakeGroup(Context& context, RankDoor& door, RankRegistration shape, std::function<void()> ended);

  void Start();

  // ---- What comes from the coordinator.
  void OnOutcome(int32_t rank, const Link* link, const RegisterOutcome& outcome);
  void OnRefused(int32_t rank, const Link* link);
  void OnIntroduced(const Link* link);
  void OnSubmit(uint64_t epoch, const SequenceRequest& request);
  void OnCancel(uint64_t epoch, SequenceId id);
  void OnRelease(uint64_t epoch, SequenceId id);
  void OnStop(uint64_t epoch);

  // ---- Faults.
  void Kill(int32_t rank);
  // Ranks first to last, for so long.
  void StopRanks(int32_t first, int32_t last, int64_t milliseconds);
  void Hang(int64_t milliseconds);
  void Slow(int64_t milliseconds);
  void Fail(int64_t milliseconds);
  void Confess(LossCause cause);
  void Lie();
  void Term();
  void Stall(int32_t rank, bool up, bool down, int64_t milliseconds);
  void Reset(int32_t rank);
  void HalfOpen(int32_t rank, Side knows);
  // Nothing hangs, stalls or is slow any more.
  void Heal();
  void EndAll();

  bool alive() const { return alive_; }
  bool at_work() const;
  // Whoever gives it up has a reason.
  bool blamed() const { return blamed_; }
  void Blame() { blamed_ = true; }
  // It has been slow, or has waited for a rank.
  bool impaired() const { return impaired_; }
  const RankRegistration& shape() const { return shape_; }
  int32_t size() const { return shape_.size; }
  uint64_t epoch() const { return ranks_[0].epoch; }
  Leader& leader() { return leader_; }
  // What it would tell of its work.
  SchedulerStats stats() const { return leader_.stats(); }
  std::string Name() const;

 private:
  struct Rank {
    std::shared_ptr<Link> link;
    uint64_t epoch = 0;       // Of its last membership.
    bool registered = false;  // On its link.
    bool alive = true;
    uint64_t stopped = 0;                     // By so many.
    std::deque<std::function<void()>> inbox;  // What waits for it to be awake.
  };

  Rank& at(int32_t rank) { return ranks_[static_cast<size_t>(rank)]; }
  void After(int32_t rank, int64_t milliseconds, std::function<void()> what);
  // Once the rank's process runs; never if it is gone.
  void Awake(int32_t rank, std::function<void()> what);
  void Dial(int32_t rank);
  void Redial(int32_t rank, int64_t milliseconds);
  void Lost(int32_t rank, const Link* link);
  void Orphan();
  void Heartbeat(int32_t rank);
  void Joined(bool continued);
  void WantStep();
  void Step();
  bool Blocked() const;
  void Send(std::vector<SequenceUpdate> updates);
  std::string PickLie(SequenceUpdate& update);
  void EndRank(int32_t rank);

  Context& context_;
  RankDoor& door_;
  const RankRegistration shape_;
  const std::function<void()> ended_;
  std::vector<Rank> ranks_;
  Leader leader_;
  bool alive_ = true;
  bool blamed_ = false;
  bool impaired_ = false;
  uint64_t hangs_ = 0;
  uint64_t slows_ = 0;
  uint64_t fails_ = 0;
  bool introduced_ = false;         // The coordinator has heard all that was held.
  bool introduced_before_ = false;  // The one before it had.
  uint64_t orphaned_ = 0;           // How often the leader was without a coordinator.
  int64_t orphan_grace_ms_ = 5'000;
  int64_t drain_timeout_ms_ = 5'000;
  bool step_wanted_ = false;
  bool terminating_ = false;
  TimeNs blocked_since_ = 0;
};

}  // namespace shoal::core::net_sim
