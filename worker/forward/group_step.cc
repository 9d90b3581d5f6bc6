#include "worker/forward/group_step.h"

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"

namespace shoal::forward {
namespace {

// What a first broadcast carries: the size of the plan and, if it fits, the plan itself. Decode
// plans of some dozen sequences do.
constexpr size_t kFirstBytes = 1024;

// A message of this size leaves its sender before the receiver asks for it, over every
// communicator: MPI's shared memory buffers the least, 4 KiB with its own header.
constexpr int64_t kBufferedBytes = 3840;

// Of an item's result: the fixed fields with "layer 1234, position 1234567", and each token that it
// chose with its log-probability.
constexpr int64_t kItemResultBytes = 52;
constexpr int64_t kChosenBytes = 12;
constexpr int64_t kTopLogprobBytes = 8;

}  // namespace

GroupStep::GroupStep(RankModel& model, plan::Cut cut, comm::Communicator& group,
                     comm::Communicator& stage, const Clock& clock, int64_t step_timeout_ms)
    : model_(model),
      cut_(cut),
      group_(group),
      stage_(stage),
      clock_(clock),
      step_timeout_ms_(step_timeout_ms),
      reporter_((cut.pipeline_parallel - 1) * cut.tensor_parallel) {}

void GroupStep::SetDeadline() {
  const Deadline deadline = Deadline::After(clock_, step_timeout_ms_);
  group_.SetDeadline(deadline);
  stage_.SetDeadline(deadline);
}

void GroupStep::Issue(const engine::StepPlan& plan) {
  SHOAL_CHECK(group_.rank() == 0 && in_flight_ < cut_.pipeline_parallel, in_flight_, " in flight");
  SetDeadline();
  // The reporter may be blocked sending a large result; a plan or rows sent to it now could block
  // as well, and neither would ever receive.
  if (bulky_) {
    while (awaited_ > 0) ReceiveResult();
    bulky_ = false;
  }
  SendPlan(plan);
  std::optional<engine::StepResult> result = model_.Run(plan);
  ++in_flight_;
  if (result) {
    results_.push_back(*std::move(result));
    return;
  }
  ++awaited_;
  bulky_ = bulky_ || IsBulky(plan);
}

bool GroupStep::IsBulky(const engine::StepPlan& plan) const {
  int64_t bytes = 0;
  for (const engine::StepItem& item : plan.items) {
    if (item.prompt_logits) return true;
    const GenerationParams& params = model_.sequences().at(item.slot).params;
    const int64_t chosen = 1 + static_cast<int64_t>(item.drafts.size());
    bytes += kItemResultBytes +
             chosen * (kChosenBytes + kTopLogprobBytes * std::max(params.top_logprobs, 0));
  }
  return bytes > kBufferedBytes;
}

engine::StepResult GroupStep::Collect() {
  SHOAL_CHECK(in_flight_ > 0, "nothing to collect");
  --in_flight_;
  if (results_.empty()) {
    SetDeadline();
    ReceiveResult();
  }
  engine::StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

void GroupStep::ReceiveResult() {
  results_.push_back(engine::DecodeStepResult(ReceiveMessage(reporter_)));
  --awaited_;
}

bool GroupStep::Follow() {
  SetDeadline();
  const engine::StepPlan plan = ReceivePlan();
  SetDeadline();
  const std::optional<engine::StepResult> result = model_.Run(plan);
  if (result) SendMessage(engine::Encode(*result), 0);
  return !plan.stop;
}

// With one stage all ranks run in lock step and a broadcast is cheapest. With several, a broadcast
// would make the leader wait for the last stage; messages do not.
void GroupStep::SendPlan(const engine::StepPlan& plan) {
  if (group_.size() == 1) return;
  const std::vector<std::byte> bytes = engine::Encode(plan);
  if (cut_.pipeline_parallel > 1) {
    for (int32_t rank = 1; rank < group_.size(); ++rank) SendMessage(bytes, rank);
    return;
  }
  std::byte first[kFirstBytes] = {};
  const uint64_t size = bytes.size();
  std::memcpy(first, &size, sizeof(size));
  const size_t head = std::min(bytes.size(), kFirstBytes - sizeof(size));
  std::memcpy(first + sizeof(size), bytes.data(), head);
  group_.Broadcast(first, 0);
  if (head < bytes.size()) {
    std::vector<std::byte> rest(bytes.begin() + head, bytes.end());
    group_.Broadcast(rest, 0);
  }
}

engine::StepPlan GroupStep::ReceivePlan() {
  if (cut_.pipeline_parallel > 1) return engine::DecodeStepPlan(ReceiveMessage(0));
  std::byte first[kFirstBytes];
  group_.Broadcast(first, 0);
  uint64_t size = 0;
  std::memcpy(&size, first, sizeof(size));
  std::vector<std::byte> bytes(size);
  const size_t head = std::min<size_t>(size, kFirstBytes - sizeof(size));
  std::memcpy(bytes.data(), first + sizeof(size), head);
  if (head < size) group_.Broadcast(std::span(bytes).subspan(head), 0);
  return engine::DecodeStepPlan(bytes);
}

void GroupStep::SendMessage(std::span<const std::byte> bytes, int32_t to) {
  const uint64_t size = bytes.size();
  group_.Send(std::as_bytes(std::span(&size, 1)), to);
  group_.Send(bytes, to);
}

std::vector<std::byte> GroupStep::ReceiveMessage(int32_t from) {
  uint64_t size = 0;
  group_.Receive(std::as_writable_bytes(std::span(&size, 1)), from);
  std::vector<std::byte> bytes(size);
  group_.Receive(bytes, from);
  return bytes;
}

}  // namespace shoal::forward
