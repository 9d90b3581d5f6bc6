#pragma once

// What a rank does once it has joined: the leader turns the coordinator's requests into steps, the
// others follow, until the group ends.

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device/thread_team.h"
#include "parallel/comm/communicator.h"
#include "transport/base/clock.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/forward/group_step.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/held_streams.h"
#include "worker/rank/serving/inbox.h"
#include "worker/rank/serving/stop_signal.h"

namespace shoal::rank {

// What both loops use.
struct LoopContext {
  forward::GroupStep& step;
  device::ThreadTeam& team;
  comm::Communicator& group;
  CoordinatorSession& session;
  const Clock& clock;
  const std::atomic<StopRequest>& stop;  // Whether the process was told to end.
};

// Without a coordinator it goes on with what it has, for the times that HeldStreams knows; the next
// coordinator gets all that is held. Threading: the step thread. Errors: those of the communicator
// and of the session.
class LeaderLoop {
 public:
  LeaderLoop(const LoopContext& context, engine::Scheduler& scheduler, Inbox& inbox,
             int64_t vocab_size);
  ~LeaderLoop();

  // Until the process or the group is told to end, or the session fails; the other ranks end too. A
  // process that has time to end asks the coordinator first to drain the group, and goes on until
  // it is dismissed, for the coordinator's drain_timeout_ms at most, or a second without one.
  void Run();

 private:
  bool HasToEnd();
  void TakeEvents();
  void Submit(InboxEvent& event);
  void Refuse(uint64_t id, std::string why, bool no_room = false);
  void Join(const Membership& membership);
  void Introduce();
  void Lose();
  void CancelExpired();
  // What is new in the engine is held, and waits to be sent.
  void CollectUpdates();
  void SendUpdates();
  void Idle();

  LoopContext context_;
  engine::Scheduler& scheduler_;
  Inbox& inbox_;
  const int64_t vocab_size_;
  const std::function<void()> send_queued_;
  HeldStreams held_;
  Membership membership_;  // The newest; `joined_` says whether it lasts.
  bool joined_ = false;
  std::vector<SequenceUpdate> news_;  // Held, and not yet sent.
  SchedulerStats sent_;               // What the coordinator knows.
  TimeNs last_plan_ = 0;              // When the ranks last heard from the leader.
  uint64_t turns_ = 0;
  bool dismissed_ = false;
  std::optional<TimeNs> drain_began_;
  Deadline drain_end_;
};

// The other ranks, until the leader's last plan. A rank that was told to end while the leader goes
// on, for longer than draining may take if there is time for it, ends the group. Errors: as above;
// kPeerLost when it ends the group.
void FollowLeader(const LoopContext& context);

}  // namespace shoal::rank
