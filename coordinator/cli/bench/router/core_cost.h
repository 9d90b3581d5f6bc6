#pragma once

// What the deciding code alone costs: no sockets, no threads, one region whose groups answer when
// they are told to.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/group.h"

namespace shoal::cli {

struct CoreCostOptions {
  uint64_t groups = 8;
  int64_t streams = 1'000;  // That the groups have while it is measured.
  int64_t prompt_tokens = 512;
  int64_t count = 10'000;  // Of decisions by each policy, and of admissions.
};

// {groups, streams, prompt_tokens, decisions: [{policy, count, p50_us, p99_us, max_us}],
//  admissions: {count, per_second, p50_us, p99_us, max_us, with_ends_per_second}}. A decision is
// Router::Choose; an admission is Region::Submit and taking the SubmitAction that it leads to.
// Errors: kFailed if the region does not behave as it should.
nlohmann::ordered_json MeasureCore(const CoreCostOptions& options);

// One rank, which is a group, as it registers. `model_name` is that of the coordinator's model.
RankRegistration LoneRank(uint64_t group_id, const std::string& model_name, int32_t vocab_size,
                          int64_t context_tokens);

// All of an answer, as a leader says it; the same for equal requests.
SequenceUpdate AnswerAtOnce(const SequenceRequest& request);

}  // namespace shoal::cli
