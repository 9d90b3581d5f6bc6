#pragma once

// Runs requests through a group without a coordinator: for `verify`, for benchmarks and for tests.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/rank/group_member.h"

namespace shoal::rank {

struct TrialRequest {
  std::vector<int32_t> prompt;
  GenerationParams params;
  int64_t arrival_step = 0;  // Submitted before this step, or as soon as there is nothing to do.
  int64_t cancel_step = -1;  // Cancelled before this step; -1: never.
  // As SequenceRequest has them; the answer is what comes after these tokens.
  std::vector<int32_t> generated{};
  bool prompt_logprobs_given = false;
};

struct TrialAnswer {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string detail;

  bool operator==(const TrialAnswer&) const = default;
};

// Collective. Result: on the leader, the answers in the requests' order (a request's id is its
// index); on the others nothing. Errors: kInvalidArgument if a request can never fit.
std::vector<TrialAnswer> RunTrial(GroupMember& member, const engine::SchedulerOptions& options,
                                  std::span<const TrialRequest> requests);

}  // namespace shoal::rank
