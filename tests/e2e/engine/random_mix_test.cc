// Whatever requests share a group with, find in its cache or have guessed for them: each gives the
// bits that it gives alone. Real models, small ones; the fake group of worker/engine has the long
// random runs.

#include <gtest/gtest.h>

#include <random>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

constexpr int64_t kRequests = 24;

// A mix that the seed decides: prompts that begin alike, and some that go on alike, of several
// classes and ways of choosing; they arrive whatever others are doing; some are cancelled.
std::vector<rank::TrialRequest> RandomMix(uint64_t seed, int64_t vocab_size) {
  std::mt19937_64 random(seed);
  const auto draw = [&](int64_t bound) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(bound));
  };
  std::vector<int32_t> base(120);
  for (int32_t& token : base) token = static_cast<int32_t>(draw(vocab_size));
  std::vector<rank::TrialRequest> requests(kRequests);
  for (rank::TrialRequest& request : requests) {
    const int64_t shared = draw(2) * draw(100);
    request.prompt.assign(base.begin(), base.begin() + shared);
    for (int64_t i = 1 + draw(40); i > 0; --i) {
      request.prompt.push_back(static_cast<int32_t>(draw(vocab_size)));
    }
    GenerationParams& params = request.params;
    switch (draw(3)) {
      case 0:
        params.sampling.temperature = 0;
        break;
      case 1:
        params.sampling = {.temperature = 0.3, .top_k = 20, .top_p = 0.9, .seed = random()};
        break;
      default:
        params.sampling = {.temperature = 0.2, .seed = random()};
    }
    if (draw(4) == 0) params.sampling.repetition_penalty = 1.05;
    if (draw(4) == 0) params.sampling.frequency_penalty = 0.1;
    params.tokens_max = 1 + draw(70);
    params.sampling.min_tokens = draw(2) * draw(params.tokens_max);
    params.stop_ids = {static_cast<int32_t>(draw(vocab_size))};
    params.prompt_logprobs = draw(6) == 0;
    params.top_logprobs = static_cast<int32_t>(draw(4)) - 1;
    params.priority = static_cast<int32_t>(draw(3));
    if (draw(5) == 0) params.cache_salt = "other";
    request.arrival_step = draw(40);
    if (draw(6) == 0) request.cancel_step = request.arrival_step + draw(30);
  }
  return requests;
}

// The same requests one after the other, none cancelled.
std::vector<rank::TrialAnswer> RunAlone(const model::Model& model,
                                        std::vector<rank::TrialRequest> requests,
                                        const TrialGroupOptions& options) {
  for (rank::TrialRequest& request : requests) {
    request.arrival_step = INT64_MAX;
    request.cancel_step = -1;
  }
  return RunTrialGroup(model, requests, options).answers;
}

void ExpectAsAlone(const rank::TrialAnswer& alone, const rank::TrialAnswer& seen) {
  if (seen.finish != FinishReason::kCancelled) {
    EXPECT_EQ(seen.tokens, alone.tokens);
    EXPECT_TRUE(seen == alone) << "log-probabilities or the end differ";
    return;
  }
  ASSERT_LE(seen.tokens.size(), alone.tokens.size());
  EXPECT_TRUE(std::equal(seen.tokens.begin(), seen.tokens.end(), alone.tokens.begin()));
  EXPECT_TRUE(std::equal(seen.logprobs.begin(), seen.logprobs.end(), alone.logprobs.begin()));
}

struct MixCase {
  plan::Cut cut;
  int64_t chunk;
  int64_t blocks;  // Twelve hold one long request and little else: the rest waits or is preempted.
  bool prefix_cache;
  int32_t guesses;
  KvDType kv_dtype = KvDType::kF16;
};

class RandomMixTest : public ::testing::TestWithParam<ModelSpec> {};

TEST_P(RandomMixTest, EveryStreamIsTheOneItsRequestGivesAlone) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(GetParam(), folder.path()));
  const std::vector<MixCase> cases = {{{1, 1}, 64, 512, true, 8},
                                      {{2, 1}, 17, 12, true, 4},
                                      {{1, 2}, 40, 16, true, 8},
                                      {{2, 2}, 7, 512, true, 16, KvDType::kInt8},
                                      {{1, 1}, 64, 12, false, 8}};
  TrialGroupOptions plain;
  plain.record_logits = false;
  for (size_t i = 0; i < cases.size(); ++i) {
    const MixCase& mix = cases[i];
    SCOPED_TRACE(Str("tensor ", mix.cut.tensor_parallel, ", pipeline ", mix.cut.pipeline_parallel,
                     ", chunk ", mix.chunk, ", blocks ", mix.blocks, ", seed ", i));
    plain.kv_dtype = mix.kv_dtype;
    const std::vector<rank::TrialRequest> requests = RandomMix(i, model->config().vocab_size);
    const std::vector<rank::TrialAnswer> alone = RunAlone(*model, requests, plain);
    TrialGroupOptions options = plain;
    options.cut = mix.cut;
    options.prefill_chunk_tokens = mix.chunk;
    options.kv_block_count = mix.blocks;
    options.sequences_max = 10;
    options.prefix_cache = mix.prefix_cache;
    options.speculation_tokens_max = mix.guesses;
    const Observation seen = RunTrialGroup(*model, requests, options);
    ASSERT_EQ(seen.answers.size(), alone.size());
    for (size_t id = 0; id < alone.size(); ++id) {
      SCOPED_TRACE(Str("request ", id));
      ASSERT_NO_FATAL_FAILURE(ExpectAsAlone(alone[id], seen.answers[id]));
    }
    if (::testing::Test::HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RandomMixTest,
                         ::testing::Values(Q4_1Spec(), Q8_0Spec(), NineHeadsSpec()),
                         [](const auto& info) { return Str("Model", info.index); });

TEST(ManySequences, TwoHundredAndFiftySixAtOnceGiveWhatEachGivesAlone) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(Q4_1Spec(), folder.path()));
  std::vector<rank::TrialRequest> requests(256);
  for (size_t i = 0; i < requests.size(); ++i) {
    for (size_t position = 0; position < 1 + i % 9; ++position) {
      requests[i].prompt.push_back(static_cast<int32_t>((7 * i + position) % 520));
    }
    requests[i].params.sampling = {.temperature = 0.9, .seed = i};
    requests[i].params.tokens_max = 12;
  }
  TrialGroupOptions options;
  options.record_logits = false;
  options.sequences_max = 256;
  const std::vector<rank::TrialAnswer> together = RunTrialGroup(*model, requests, options).answers;
  EXPECT_TRUE(together == RunAlone(*model, requests, options));
}

}  // namespace
}  // namespace shoal::test
