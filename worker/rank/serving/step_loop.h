#pragma once

// What a rank does once it has joined: the leader turns the coordinator's requests into steps, the
// others follow, until the group ends.

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/device/thread_team.h"
#include "parallel/comm/communicator.h"
#include "transport/base/clock.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/forward/group_step.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/inbox.h"

namespace shoal::rank {

// What both loops use.
struct LoopContext {
  forward::GroupStep& step;
  device::ThreadTeam& team;
  comm::Communicator& group;
  CoordinatorSession& session;
  const Clock& clock;
  const std::atomic<bool>& stop;  // True once the process was told to end.
};

// Threading: the step thread. Errors: those of the communicator and of the session.
class LeaderLoop {
 public:
  LeaderLoop(const LoopContext& context, engine::Scheduler& scheduler, Inbox& inbox,
             int64_t vocab_size);
  ~LeaderLoop();

  // Until the process or the group is told to end, or the session fails; the other ranks end too.
  void Run();

 private:
  void TakeEvents();
  void Submit(InboxEvent& event);
  void Refuse(uint64_t id, std::string why);
  void SendUpdates();
  void Idle();

  LoopContext context_;
  engine::Scheduler& scheduler_;
  Inbox& inbox_;
  const int64_t vocab_size_;
  const std::function<void()> send_queued_;
  std::vector<SequenceUpdate> refusals_;
  SchedulerStats sent_;   // What the coordinator knows.
  TimeNs last_plan_ = 0;  // When the ranks last heard from the leader.
  uint64_t turns_ = 0;
  uint64_t losses_ = 0;  // kLost events taken so far.
  bool dismissed_ = false;
};

// The other ranks, until the leader's last plan. A rank that was told to end while the leader goes
// on ends the group. Errors: as above; kPeerLost when it ends the group.
void FollowLeader(const LoopContext& context);

}  // namespace shoal::rank
