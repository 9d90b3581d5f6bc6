#include "worker/forward/group_step.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/base/check.h"

namespace shoal::forward {
namespace {

// What a first broadcast carries: the size of the plan and, if it fits, the plan itself. Decode
// plans of some dozen sequences do.
constexpr size_t kFirstBytes = 1024;

// Where there are only the two of them.
constexpr int32_t kLeader = 0;
constexpr int32_t kReporter = 1;

}  // namespace

GroupStep::GroupStep(RankModel& model, plan::Cut cut, comm::Communicator& group,
                     comm::Communicator& stage, const Clock& clock, int64_t step_timeout_ms)
    : model_(model),
      cut_(cut),
      group_(group),
      stage_(stage),
      clock_(clock),
      step_timeout_ms_(step_timeout_ms) {
  if (cut.pipeline_parallel == 1) return;
  const bool reports = group.rank() == (cut.pipeline_parallel - 1) * cut.tensor_parallel;
  const bool takes_part = leads() || reports;
  results_ = group.Split(takes_part ? 0 : 1, group.rank());
  if (!takes_part) results_.reset();
  if (!reports) return;
  // One more than are under way: a result may have arrived and not yet have left the outbox.
  const auto messages_max = static_cast<size_t>(cut.pipeline_parallel) + 1;
  outbox_.emplace(*results_, kLeader, messages_max, clock, step_timeout_ms);
}

void GroupStep::SetDeadline() {
  const Deadline deadline = Deadline::After(clock_, step_timeout_ms_);
  group_.SetDeadline(deadline);
  stage_.SetDeadline(deadline);
  if (results_ != nullptr && !outbox_) results_->SetDeadline(deadline);
}

void GroupStep::Issue(const engine::StepPlan& plan) {
  SHOAL_CHECK(leads() && in_flight_ < cut_.pipeline_parallel, in_flight_, " in flight");
  SetDeadline();
  std::vector<std::byte> bytes;
  if (group_.size() > 1) bytes = Broadcast(engine::Encode(plan));
  result_ = Run(plan, bytes);
  ++in_flight_;
}

engine::StepResult GroupStep::Collect() {
  SHOAL_CHECK(in_flight_ > 0, "nothing to collect");
  --in_flight_;
  if (result_) return *std::exchange(result_, std::nullopt);
  SetDeadline();
  return engine::DecodeStepResult(comm::ReceiveMessage(*results_, kReporter));
}

bool GroupStep::Follow() {
  SetDeadline();
  const int32_t before = group_.rank() - cut_.tensor_parallel;
  const std::vector<std::byte> bytes =
      before < 0 ? Broadcast({}) : comm::ReceiveMessage(group_, before);
  const engine::StepPlan plan = engine::DecodeStepPlan(bytes);
  SetDeadline();
  const std::optional<engine::StepResult> result = Run(plan, bytes);
  if (result) outbox_->Post(engine::Encode(*result));
  if (outbox_ && plan.stop) outbox_->Flush();
  return !plan.stop;
}

std::optional<engine::StepResult> GroupStep::Run(const engine::StepPlan& plan,
                                                 std::span<const std::byte> bytes) {
  std::optional<engine::StepResult> result = model_.Run(plan);
  const int32_t next = group_.rank() + cut_.tensor_parallel;
  if (next < group_.size()) {
    comm::SendMessage(group_, bytes, next);
    model_.SendRows();
  }
  return result;
}

std::vector<std::byte> GroupStep::Broadcast(std::vector<std::byte> plan) {
  if (stage_.size() == 1) return plan;
  std::byte first[kFirstBytes] = {};
  uint64_t size = plan.size();
  std::memcpy(first, &size, sizeof(size));
  std::copy_n(plan.begin(), std::min(plan.size(), kFirstBytes - sizeof(size)),
              first + sizeof(size));
  stage_.Broadcast(first, 0);
  std::memcpy(&size, first, sizeof(size));
  const size_t head = std::min<size_t>(size, kFirstBytes - sizeof(size));
  plan.resize(size);
  std::copy_n(first + sizeof(size), head, plan.begin());
  if (head < size) stage_.Broadcast(std::span(plan).subspan(head), 0);
  return plan;
}

}  // namespace shoal::forward
