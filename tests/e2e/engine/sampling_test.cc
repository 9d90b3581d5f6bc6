// Every way of choosing a token, mixed in one batch: the definition's tokens, at every cut.

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/math/scalar.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"
#include "tests/worker/engine/choice/sampler_reference.h"

namespace shoal::test {
namespace {

constexpr int64_t kNewTokens = 24;

SamplingParams Sampling(uint32_t i) {
  SamplingParams s;
  s.temperature = i % 5 == 0 ? 0 : 0.5 + 0.25 * (i % 4);
  s.seed = i / 2;
  s.choice = i % 2;  // Two answers of one request.
  if (i % 3 == 0) s.repetition_penalty = i % 2 == 0 ? 1.3 : 0.8;
  if (i % 4 == 1) s.frequency_penalty = 0.6;
  if (i % 4 == 3) s.presence_penalty = -0.9;
  if (i % 5 == 2) s.logit_bias = {{519, 4}, {3, -100}, {64, 2.5F}, {130, 2}};
  if (i % 6 == 4) s.top_k = 30;
  if (i % 7 == 3) s.typical_p = 0.8;
  if (i % 4 == 2) s.top_p = 0.9;
  if (i % 8 == 5) s.min_p = 0.03;
  if (i % 2 == 1) s.min_tokens = 1 + i % 12;
  return s;
}

std::vector<rank::TrialRequest> Requests(const model::ModelConfig& config, bool batched) {
  std::vector<rank::TrialRequest> requests;
  for (uint32_t i = 0; i < 28; ++i) {
    rank::TrialRequest& request = requests.emplace_back();
    for (uint32_t position = 0; position < 3 + i % 40; ++position) {
      request.prompt.push_back(
          static_cast<int32_t>(math::Philox4x32({position, i / 2, 0, 0}, {5, 0})[0] % 30));
    }
    request.params.sampling = Sampling(i);
    request.params.tokens_max = kNewTokens;
    // So many that the model would stop soon if it could.
    for (int32_t id = 0; id < config.vocab_size; id += 5) request.params.stop_ids.push_back(id);
    if (i % 9 == 8) request.params.top_logprobs = 3;
    request.arrival_step = batched ? static_cast<int64_t>(i * 5 % 13) : INT64_MAX;
  }
  return requests;
}

class EverySampling : public ::testing::Test {
 protected:
  const ScratchFolder folder_;
  const std::unique_ptr<model::Model> model_ =
      model::Model::Open(WriteModel(Q4_1Spec(), folder_.path()));

  Observation Run(bool batched, const TrialGroupOptions& options) const {
    return RunTrialGroup(*model_, Requests(model_->config(), batched), options);
  }
};

TEST_F(EverySampling, ChoosesTheDefinitionsTokens) {
  TrialGroupOptions options;
  options.keep_logits = true;
  const auto requests = Requests(model_->config(), true);
  const Observation seen = RunTrialGroup(*model_, requests, options);
  int stopped = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const rank::TrialRequest& request = requests[i];
    const std::vector<int32_t>& tokens = seen.answers[i].tokens;
    engine::ReferenceCase c = {.sampling = request.params.sampling,
                               .tokens = request.prompt,
                               .prompt_count = static_cast<int64_t>(request.prompt.size()),
                               .stop_ids = request.params.stop_ids};
    for (const int32_t token : tokens) {
      c.logits = seen.logits.at({i, c.position() - 1});
      ASSERT_EQ(token, engine::ChosenByDefinition(c)) << "request " << i;
      c.tokens.push_back(token);
    }
    // It goes on past min_tokens only without a stop id, and ends with the first.
    const auto least = static_cast<size_t>(request.params.sampling.min_tokens);
    ASSERT_GE(tokens.size(), least);
    for (size_t t = 0; t + 1 < tokens.size(); ++t) ASSERT_NE(tokens[t] % 5, 0) << "request " << i;
    if (seen.answers[i].finish == FinishReason::kStop) {
      ++stopped;
      ASSERT_GT(tokens.size(), least);
      ASSERT_EQ(tokens.back() % 5, 0);
    } else {
      ASSERT_EQ(tokens.size(), static_cast<size_t>(kNewTokens));
    }
  }
  EXPECT_GT(stopped, 10);
}

TEST_F(EverySampling, GivesTheSameTokensForEveryCutAloneAndTogether) {
  TrialGroupOptions plain;
  plain.isa = {"scalar"};
  plain.record_logits = false;  // As in service: candidates where they decide, else all logits.
  const Observation reference = Run(/*batched=*/false, plain);
  const std::vector<plan::Cut> cuts = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {8, 1},
                                       {1, 2}, {1, 3}, {2, 2}, {3, 2}};
  for (const plan::Cut& cut : cuts) {
    SCOPED_TRACE(Str("tensor ", cut.tensor_parallel, ", pipeline ", cut.pipeline_parallel));
    TrialGroupOptions options;
    options.cut = cut;
    options.record_logits = false;
    options.threads = 2;
    options.prefill_chunk_tokens = 16;
    options.kv_block_count = 40;  // Some sequences are preempted, and their tokens counted again.
    const Observation seen = Run(/*batched=*/true, options);
    for (size_t i = 0; i < reference.answers.size(); ++i) {
      ASSERT_EQ(reference.answers[i].tokens, seen.answers[i].tokens) << "request " << i;
      ASSERT_TRUE(reference.answers[i] == seen.answers[i]) << "request " << i;
    }
  }
}

}  // namespace
}  // namespace shoal::test
