#pragma once

// How the ranks of a group take a step together: plans go out from the leader, results come back.

#include <cstdint>
#include <deque>
#include <optional>

#include "parallel/comm/communicator.h"
#include "parallel/plan/plan.h"
#include "transport/base/clock.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/rank_model.h"

namespace shoal::forward {

// Rank 0 is the leader. It may have as many plans under way as there are stages; results come back
// in the order of the plans. Every rank runs each plan exactly once, in order.
// Threading: one thread per object.
// Errors:    those of the communicator; the group is then of no further use.
class GroupStep {
 public:
  // A plan, from its sending to its result, may take `step_timeout_ms`; waiting for the leader's
  // next plan likewise, so an idle leader must send an empty plan more often than that.
  GroupStep(RankModel& model, plan::Cut cut, comm::Communicator& group, comm::Communicator& stage,
            const Clock& clock, int64_t step_timeout_ms);

  // Leader: sends the plan to all ranks and runs this rank's part.
  void Issue(const engine::StepPlan& plan);
  // Leader: the result of the oldest plan that has none yet. Precondition: in_flight() > 0.
  engine::StepResult Collect();
  int32_t in_flight() const { return in_flight_; }
  RankModel& model() { return model_; }

  // Others: receives the next plan and runs this rank's part. Result: false if it was the last.
  bool Follow();

 private:
  void SetDeadline();
  // True if the result of a plan that has run may exceed what a link buffers.
  bool IsBulky(const engine::StepPlan& plan) const;
  void SendPlan(const engine::StepPlan& plan);
  engine::StepPlan ReceivePlan();
  void SendMessage(std::span<const std::byte> bytes, int32_t to);
  std::vector<std::byte> ReceiveMessage(int32_t from);
  void ReceiveResult();

  RankModel& model_;
  const plan::Cut cut_;
  comm::Communicator& group_;
  comm::Communicator& stage_;
  const Clock& clock_;
  const int64_t step_timeout_ms_;
  const int32_t reporter_;  // The rank whose RankModel returns results.
  int32_t in_flight_ = 0;
  int32_t awaited_ = 0;                     // Results that the reporter has still to send.
  bool bulky_ = false;                      // One of them may exceed what a link buffers.
  std::deque<engine::StepResult> results_;  // Those that are here.
};

}  // namespace shoal::forward
