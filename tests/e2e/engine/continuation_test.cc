// A stream that is cut at any token and goes on in another group, with the tokens that it has: the
// rest is, bit for bit, that of the stream that nobody cut. Real models, small ones.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"
#include "transport/base/check.h"

namespace shoal::test {
namespace {

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":4},"ok":{"type":)"
    R"("boolean"}},"required":["name","ok"]})";

std::vector<int32_t> PromptOf(size_t index, size_t count) {
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < count; ++i) {
    prompt.push_back(static_cast<int32_t>((31 * i + 57 * index + 3) % 256));
  }
  return prompt;
}

// One of each way in which the next token hangs on what came before it.
std::vector<rank::TrialRequest> Requests(const model::ModelConfig& config) {
  std::vector<rank::TrialRequest> requests;
  const auto with = [&](size_t prompt_count, int64_t tokens_max, const SamplingParams& sampling) {
    rank::TrialRequest request;
    request.prompt = PromptOf(requests.size(), prompt_count);
    request.params.sampling = sampling;
    request.params.tokens_max = tokens_max;
    return request;
  };
  requests.push_back(with(40, 40, {.temperature = 0}));
  requests.push_back(with(1, 30, {.temperature = 1, .seed = 11, .choice = 3}));
  requests.push_back(with(9, 30, {.temperature = 0.8, .top_k = 40, .top_p = 0.9, .seed = 5}));
  requests.push_back(with(20, 30, {.temperature = 0.7, .min_p = 0.05, .seed = 2, .choice = 1}));
  requests.push_back(
      with(12, 40, {.temperature = 0, .repetition_penalty = 1.3, .frequency_penalty = 0.5}));
  requests.push_back(with(33, 30, {.temperature = 1, .seed = 8, .presence_penalty = 1.5}));
  requests.push_back(with(7, 24, {.temperature = 0, .logit_bias = {{5, 4}, {77, -100}}}));

  requests.push_back(with(20, 30, {.temperature = 1, .seed = 3}));
  requests.back().params.top_logprobs = 3;
  requests.push_back(with(50, 20, {.temperature = 0}));
  requests.back().params.top_logprobs = 0;
  requests.back().params.prompt_logprobs = true;
  requests.push_back(with(1, 12, {.temperature = 0}));
  requests.back().params.prompt_logprobs = true;

  for (const GrammarSource& grammar :
       {GrammarSource{GrammarKind::kJsonSchema, kSchema},
        GrammarSource{GrammarKind::kRegex, "[a-z]{3,9}( [0-9]{1,4}){2}"}}) {
    requests.push_back(with(16, 60, {.temperature = 1, .seed = 9}));
    requests.back().params.grammar = grammar;
    requests.back().params.stop_ids = config.eos_ids;
  }
  return requests;
}

// Ends some by a stop id, and some because min_tokens withheld it before: ids that they choose.
void AddStops(const std::vector<rank::TrialAnswer>& answers,
              std::vector<rank::TrialRequest>& requests) {
  for (const size_t i : {size_t{1}, size_t{2}, size_t{4}}) {
    rank::TrialRequest request = requests[i];
    request.params.stop_ids = {answers[i].tokens.at(14)};
    if (i == 2) request.params.sampling.min_tokens = 20;
    requests.push_back(std::move(request));
  }
}

struct Cut {
  size_t request;
  size_t token;
  bool prompt_logprobs_given;
};

// Every place between two tokens of every answer, and its begin.
std::vector<Cut> AllCuts(const std::vector<rank::TrialRequest>& requests,
                         const std::vector<rank::TrialAnswer>& answers) {
  std::vector<Cut> cuts;
  for (size_t i = 0; i < requests.size(); ++i) {
    for (size_t token = 0; token < answers[i].tokens.size(); ++token) {
      cuts.push_back({i, token, false});
      if (requests[i].params.prompt_logprobs && token > 0) cuts.push_back({i, token, true});
    }
  }
  return cuts;
}

rank::TrialRequest RestOf(const Cut& cut, const rank::TrialRequest& request,
                          const rank::TrialAnswer& answer) {
  rank::TrialRequest rest = request;
  rest.generated.assign(answer.tokens.begin(),
                        answer.tokens.begin() + static_cast<ptrdiff_t>(cut.token));
  rest.prompt_logprobs_given = cut.prompt_logprobs_given;
  rest.arrival_step = static_cast<int64_t>(cut.token * 5 % 13);
  return rest;
}

rank::TrialAnswer WhatIsLeft(const Cut& cut, rank::TrialAnswer answer) {
  const auto drop = [&](auto& list) {
    list.erase(list.begin(),
               list.begin() + static_cast<ptrdiff_t>(std::min(cut.token, list.size())));
  };
  drop(answer.tokens);
  drop(answer.logprobs);
  if (cut.prompt_logprobs_given) answer.prompt_logprobs.clear();
  return answer;
}

struct Group {
  plan::Cut cut;
  KvDType kv_dtype;
  int64_t chunk;  // A short one cuts prompt and brought tokens into several steps.
  int64_t blocks;
  bool prefix_cache;
  int32_t guesses;
};

void PrintTo(const Group& group, std::ostream* out) {
  *out << "tensor " << group.cut.tensor_parallel << ", pipeline " << group.cut.pipeline_parallel
       << ", kv " << static_cast<int>(group.kv_dtype) << ", chunk " << group.chunk << ", blocks "
       << group.blocks << ", prefix cache " << group.prefix_cache << ", guesses " << group.guesses;
}

class Continuation : public ::testing::TestWithParam<Group> {};

TEST_P(Continuation, GivesTheRestOfTheStreamFromEveryToken) {
  const Group& group = GetParam();
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(Q4_1Spec(), folder.path()));
  TrialGroupOptions options;
  options.record_logits = false;
  options.kv_dtype = group.kv_dtype;
  std::vector<rank::TrialRequest> requests = Requests(model->config());
  AddStops(RunTrialGroup(*model, requests, options).answers, requests);
  const std::vector<rank::TrialAnswer> whole = RunTrialGroup(*model, requests, options).answers;
  const auto stopped = std::count_if(whole.begin(), whole.end(), [](const rank::TrialAnswer& one) {
    return one.finish == FinishReason::kStop;
  });
  ASSERT_GE(stopped, 3) << "none of the requests ends by a stop id";

  const std::vector<Cut> cuts = AllCuts(requests, whole);
  std::vector<rank::TrialRequest> rests;
  for (const Cut& cut : cuts) {
    rests.push_back(RestOf(cut, requests[cut.request], whole[cut.request]));
  }
  options.cut = group.cut;
  options.prefill_chunk_tokens = group.chunk;
  options.kv_block_count = group.blocks;
  options.prefix_cache = group.prefix_cache;
  options.speculation_tokens_max = group.guesses;
  const std::vector<rank::TrialAnswer> seen = RunTrialGroup(*model, rests, options).answers;
  ASSERT_EQ(seen.size(), cuts.size());
  for (size_t i = 0; i < cuts.size(); ++i) {
    SCOPED_TRACE(Str("request ", cuts[i].request, " from token ", cuts[i].token));
    const rank::TrialAnswer left = WhatIsLeft(cuts[i], whole[cuts[i].request]);
    ASSERT_EQ(seen[i].tokens, left.tokens);
    ASSERT_EQ(seen[i].finish, left.finish);
    ASSERT_TRUE(seen[i] == left) << "log-probabilities or the detail differ";
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, Continuation,
                         ::testing::Values(Group{{1, 1}, KvDType::kF16, 512, 512, true, 8},
                                           Group{{2, 1}, KvDType::kF16, 17, 512, false, 0},
                                           Group{{1, 2}, KvDType::kF32, 7, 512, true, 8},
                                           Group{{2, 1}, KvDType::kBF16, 40, 12, true, 4},
                                           Group{{1, 2}, KvDType::kInt8, 64, 512, false, 8},
                                           Group{{2, 2}, KvDType::kInt8, 17, 24, true, 0}));

}  // namespace
}  // namespace shoal::test
