#include "worker/tools/trial.h"

#include <algorithm>

#include "transport/base/error.h"

namespace shoal::rank {
namespace {

void Submit(engine::Scheduler& scheduler, const TrialRequest& request, uint64_t id) {
  if (scheduler.Submit({id, request.prompt, request.params, request.generated,
                        request.prompt_logprobs_given}) != engine::SubmitOutcome::kAccepted) {
    Throw(ErrorCode::kInvalidArgument, "request ", id, ": a prompt of ", request.prompt.size(),
          " tokens and up to ", request.params.tokens_max,
          " more do not fit; raise the context or the cache");
  }
}

void Append(const SequenceUpdate& update, TrialAnswer& answer) {
  answer.tokens.insert(answer.tokens.end(), update.tokens.begin(), update.tokens.end());
  answer.logprobs.insert(answer.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
  if (!update.prompt_logprobs.empty()) answer.prompt_logprobs = update.prompt_logprobs;
  answer.finish = update.finish;
  answer.detail = update.detail;
}

}  // namespace

std::vector<TrialAnswer> RunTrial(GroupMember& member, const engine::SchedulerOptions& options,
                                  std::span<const TrialRequest> requests) {
  if (!member.leads()) {
    while (member.step().Follow()) {
    }
    return {};
  }
  engine::Scheduler scheduler(options);
  std::vector<TrialAnswer> answers(requests.size());
  std::vector<bool> submitted(requests.size());
  for (int64_t turn = 0;; ++turn) {
    bool all_submitted = true;
    for (size_t id = 0; id < requests.size(); ++id) {
      const bool due = requests[id].arrival_step <= turn || scheduler.idle();
      if (!submitted[id] && due) {
        Submit(scheduler, requests[id], id);
        submitted[id] = true;
      }
      if (requests[id].cancel_step == turn) scheduler.Cancel(id);
      all_submitted = all_submitted && submitted[id];
    }
    const bool worked = LeaderTurn(scheduler, member.step());
    for (const SequenceUpdate& update : scheduler.TakeUpdates()) {
      Append(update, answers[update.id]);
    }
    if (!worked && all_submitted && scheduler.idle()) break;
  }
  member.step().Issue(scheduler.StopStep());
  // The last stage answers this plan too: nothing may be under way when the communicator is used
  // for something else.
  static_cast<void>(member.step().Collect());
  return answers;
}

}  // namespace shoal::rank
