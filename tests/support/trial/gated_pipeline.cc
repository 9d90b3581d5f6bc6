#include "tests/support/trial/gated_pipeline.h"

#include <sched.h>
#include <xxhash.h>

#include <bit>
#include <optional>
#include <vector>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/rank/group_member.h"

// The first plan starts all sequences; from the second on each holds its share of them, and there
// is always another one to issue until they end.

namespace shoal::test {
namespace {

constexpr int64_t kTokens = 5;
constexpr int64_t kGateMs = 30'000;
constexpr int64_t kStepMs = 2 * kGateMs;

GenerationParams Params() {
  GenerationParams params;
  params.sampling.temperature = 0;
  params.tokens_max = kTokens;
  params.top_logprobs = 20;
  for (int32_t token = 0; token < 50; ++token) {
    params.sampling.logit_bias.emplace_back(token, 0.5F);
  }
  return params;
}

void AwaitBegun(const std::atomic<int64_t>& begun, int64_t plan, int64_t awaited) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kGateMs);
  while (begun.load() < awaited) {
    if (deadline.Passed(clock)) {
      Throw(ErrorCode::kDeadlineExceeded, "while plan ", plan,
            " was in the last stage, the first got to ", begun.load(), ", not ", awaited);
    }
    sched_yield();
  }
}

std::string Lead(rank::GroupMember& member, const engine::SchedulerOptions& options,
                 int64_t requests, int64_t& plan_number) {
  engine::Scheduler scheduler(options);
  for (int64_t id = 0; id < requests; ++id) {
    const std::vector<int32_t> prompt = {static_cast<int32_t>(id % 300)};
    SHOAL_CHECK(scheduler.Submit({static_cast<uint64_t>(id), prompt, Params()}) ==
                engine::SubmitOutcome::kAccepted);
  }
  // In the order of ids: updates of different sequences come in that of the plans.
  std::vector<std::string> answers(static_cast<size_t>(requests));
  while (true) {
    if (const std::optional<engine::StepPlan> plan = scheduler.NextStep()) {
      ++plan_number;
      member.step().Issue(*plan);
    } else if (member.step().in_flight() > 0) {
      scheduler.OnResult(member.step().Collect());
    } else {
      break;
    }
    for (const SequenceUpdate& update : scheduler.TakeUpdates()) {
      std::string& answer = answers[update.id];
      for (const int32_t token : update.tokens) answer += Str(token, " ");
      for (const TokenLogprobs& logprobs : update.logprobs) {
        for (const auto& [token, value] : logprobs.top) {
          answer += Str(token, ":", std::bit_cast<uint32_t>(value), " ");
        }
      }
    }
  }
  member.step().Issue(scheduler.StopStep());
  static_cast<void>(member.step().Collect());
  std::string all;
  for (const std::string& answer : answers) all += answer + "\n";
  return Str(XXH3_64bits(all.data(), all.size()));
}

}  // namespace

std::string RunGatedPipeline(const model::Model& model, comm::Communicator& group,
                             std::atomic<int64_t>& begun, const GatedPipelineOptions& options) {
  const SteadyClock clock;
  const int32_t stages = options.stages;
  const int32_t requests = stages * options.rows;
  const engine::SchedulerOptions scheduler{.sequences_max = requests,
                                           .requests_waiting_max = requests,
                                           .prefill_chunk_tokens = requests,
                                           .kv_block_count = requests,
                                           .context_tokens = model.config().context_tokens,
                                           .steps_in_flight_max = stages};
  int64_t plan_number = 0;
  const int64_t last_gated = 1 + (kTokens - 2) * stages;
  rank::GroupMemberOptions member_options;
  member_options.step_timeout_ms = kStepMs;
  member_options.model.cut.pipeline_parallel = stages;
  member_options.model.rank = group.rank();
  member_options.model.kv_block_count = requests;
  member_options.model.context_tokens = model.config().context_tokens;
  member_options.model.sequences_max = requests;
  member_options.model.prefill_chunk_tokens = requests;
  member_options.model.on_input = [&](int64_t, forward::LayerInput, std::span<const float>,
                                      int64_t) {
    if (group.rank() == 0) begun.store(plan_number);
    const int64_t awaited = plan_number + stages - 1;
    if (group.rank() == stages - 1 && options.gated && plan_number > 1 && awaited <= last_gated) {
      AwaitBegun(begun, plan_number, awaited);
    }
  };
  device::ThreadTeam team(1);
  rank::GroupMember member(model, member_options,
                           cpu::SelectKernelTable(cpu::DetectCpuFeatures(), ""), team, clock,
                           group);
  if (member.leads()) return Lead(member, scheduler, requests, plan_number);
  do ++plan_number;
  while (member.step().Follow());
  return "";
}

}  // namespace shoal::test
