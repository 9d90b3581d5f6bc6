#include "worker/rank/group_member.h"

#include "transport/base/check.h"

namespace shoal::rank {

GroupMember::GroupMember(const model::Model& model, const GroupMemberOptions& options,
                         const cpu::KernelTable& kernels, device::ThreadTeam& team,
                         const Clock& clock, comm::Communicator& group)
    : rank_(group.rank()) {
  const plan::Cut cut = options.model.cut;
  SHOAL_CHECK(group.size() == cut.rank_count(), group.size(), " ranks");
  group.SetDeadline(Deadline::After(clock, options.step_timeout_ms));
  shards_ = plan::PlanCut(
      model, {.cut = cut, .rank_speeds = options.rank_speeds, .kv_dtype = options.model.kv_dtype});
  forward::RankOptions rank_options = options.model;
  rank_options.rank = rank_;
  stage_ = group.Split(shards_[rank_].stage, rank_);
  stage_->SetDeadline(Deadline::After(clock, options.step_timeout_ms));
  model_ = std::make_unique<forward::RankModel>(model, shards_, rank_options, kernels, team, group,
                                                *stage_);
  step_ = std::make_unique<forward::GroupStep>(*model_, cut, group, *stage_, clock,
                                               options.step_timeout_ms);
}

bool LeaderTurn(engine::Scheduler& scheduler, forward::GroupStep& step) {
  // The scheduler counts the plans it has handed out, so it offers none that the stages have no
  // room for.
  if (const std::optional<engine::StepPlan> plan = scheduler.NextStep()) {
    step.Issue(*plan);
    return true;
  }
  if (step.in_flight() == 0) return false;
  scheduler.OnResult(step.Collect());
  return true;
}

}  // namespace shoal::rank
