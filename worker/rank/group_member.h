#pragma once

// One rank of a group, put together: its shard, its communicators, its model and its steps. Knows
// neither MPI nor the coordinator, so that tests and benchmarks use it as the process does.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "transport/base/clock.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/forward/group_step.h"
#include "worker/forward/rank_model.h"

namespace shoal::rank {

struct GroupMemberOptions {
  forward::RankOptions model;       // `rank` is taken from the communicator.
  std::vector<double> rank_speeds;  // As PlanOptions; equal on all ranks.
  int64_t step_timeout_ms = 60'000;
};

class GroupMember {
 public:
  // Collective. `group` has cut.rank_count() ranks. Errors: those of PlanCut, ShardWeights and the
  // communicator.
  GroupMember(const model::Model& model, const GroupMemberOptions& options,
              const cpu::KernelTable& kernels, device::ThreadTeam& team, const Clock& clock,
              comm::Communicator& group);

  forward::RankModel& model() { return *model_; }
  forward::GroupStep& step() { return *step_; }
  const plan::RankShard& shard() const { return shards_[rank_]; }
  bool leads() const { return rank_ == 0; }

 private:
  int32_t rank_;
  std::vector<plan::RankShard> shards_;
  std::unique_ptr<comm::Communicator> stage_;
  std::unique_ptr<forward::RankModel> model_;
  std::unique_ptr<forward::GroupStep> step_;
};

// One turn of the leader's loop: issues the scheduler's next plan if there is one and room for it,
// otherwise collects the oldest result. Result: false if there was nothing to do.
bool LeaderTurn(engine::Scheduler& scheduler, forward::GroupStep& step);

}  // namespace shoal::rank
