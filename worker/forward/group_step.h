#pragma once

// How the ranks of a group take a step together: plans go out from the leader, results come back.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/outbox.h"
#include "parallel/plan/plan.h"
#include "transport/base/clock.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/rank_model.h"

namespace shoal::forward {

// Rank 0 is the leader. It may have as many plans under way as there are stages; results come back
// in the order of the plans. Every rank runs each plan exactly once, in order.
// Waiting:   the leader's stage gets a plan by broadcast, each other one with the rows of the stage
//            before it. A stage waits until the next one takes them, and the last one never waits:
//            results of any size leave it while it computes. So the stages, each with a plan of its
//            own, cannot wait for each other in a circle.
// Threading: one thread per object.
// Errors:    those of the communicator; the group is then of no further use.
class GroupStep {
 public:
  // Collective. A plan, from its sending to its result, may take `step_timeout_ms`; waiting for the
  // leader's next plan likewise, so an idle leader must send an empty plan more often than that.
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
  bool leads() const { return group_.rank() == 0; }
  void SetDeadline();
  // In the leader's stage: its plan, to all ranks of the stage.
  std::vector<std::byte> Broadcast(std::vector<std::byte> plan);
  // Runs a plan, and gives it and its rows to the next stage.
  std::optional<engine::StepResult> Run(const engine::StepPlan& plan,
                                        std::span<const std::byte> bytes);

  RankModel& model_;
  const plan::Cut cut_;
  comm::Communicator& group_;
  comm::Communicator& stage_;
  const Clock& clock_;
  const int64_t step_timeout_ms_;
  int32_t in_flight_ = 0;
  std::optional<engine::StepResult> result_;  // The leader's own, with one stage.
  // With several stages, between the leader and the rank that reports; null on the others.
  std::unique_ptr<comm::Communicator> results_;
  std::optional<comm::Outbox> outbox_;  // Of the rank that reports.
};

}  // namespace shoal::forward
