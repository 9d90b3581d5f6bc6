// SmolLM2-135M-Instruct in Q4_1 against a reference implementation that computes with the same
// weights in float32: close where the reference itself is sure, and the same bits on 1, 2 and 3
// ranks.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/model/golden.h"
#include "tests/support/model/smollm2.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

using nlohmann::json;

// Below this distance between the two best logits, quantised activations may choose the other one.
constexpr double kSureGap = 0.3;

struct Dialogue {
  std::vector<int32_t> ids;
  std::vector<int32_t> greedy_ids;
  std::vector<double> gaps;
};

json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::vector<Dialogue> ReadDialogues(const std::string& fixtures) {
  std::vector<Dialogue> dialogues;
  for (const auto& [file, list] : {std::pair("prompts", "prompts"), std::pair("chats", "chats")}) {
    const json facts = ReadJson(fixtures + "/smollm2/" + file + ".json");
    for (const json& entry : facts.at(list)) {
      dialogues.push_back({.ids = entry.at("ids").get<std::vector<int32_t>>(),
                           .greedy_ids = entry.at("greedy_ids").get<std::vector<int32_t>>(),
                           .gaps = entry.at("greedy_gaps").get<std::vector<double>>()});
    }
  }
  return dialogues;
}

rank::TrialRequest Greedy(std::vector<int32_t> prompt, int64_t tokens_max) {
  rank::TrialRequest request;
  request.prompt = std::move(prompt);
  request.params.sampling.temperature = 0;
  request.params.tokens_max = tokens_max;
  return request;
}

TrialGroupOptions Options(int ranks) {
  TrialGroupOptions options;
  options.cut.tensor_parallel = ranks;
  options.threads = ranks == 1 ? 2 : 1;
  return options;
}

class SmolLm2Ranks : public ::testing::TestWithParam<int> {};

TEST_P(SmolLm2Ranks, ContinuesAsTheReferenceWhereItIsSure) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  SHOAL_REQUIRE_SMOLLM2(path);
  const auto model = model::Model::Open(path);
  const std::vector<Dialogue> dialogues = ReadDialogues(fixtures);
  ASSERT_FALSE(dialogues.empty());
  std::vector<rank::TrialRequest> requests;
  for (const Dialogue& dialogue : dialogues) {
    requests.push_back(Greedy(dialogue.ids, dialogue.greedy_ids.size()));
  }
  const Observation seen = RunTrialGroup(*model, requests, Options(GetParam()));
  for (size_t d = 0; d < dialogues.size(); ++d) {
    const Dialogue& dialogue = dialogues[d];
    for (size_t step = 0; step < dialogue.gaps.size() && dialogue.gaps[step] >= kSureGap; ++step) {
      ASSERT_EQ(seen.answers[d].tokens[step], dialogue.greedy_ids[step])
          << "dialogue " << d << ", step " << step;
    }
  }
}

TEST_P(SmolLm2Ranks, PrefersTheReferencesTokenAtEverySureStep) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  SHOAL_REQUIRE_SMOLLM2(path);
  const auto model = model::Model::Open(path);
  const std::vector<Dialogue> dialogues = ReadDialogues(fixtures);
  std::vector<rank::TrialRequest> requests;
  for (const Dialogue& dialogue : dialogues) {
    std::vector<int32_t> forced = dialogue.ids;
    forced.insert(forced.end(), dialogue.greedy_ids.begin(), dialogue.greedy_ids.end());
    rank::TrialRequest& request = requests.emplace_back(Greedy(std::move(forced), 0));
    request.params.prompt_logprobs = true;
    request.params.top_logprobs = 1;
  }
  const Observation seen = RunTrialGroup(*model, requests, Options(GetParam()));
  int compared = 0;
  for (size_t d = 0; d < dialogues.size(); ++d) {
    const Dialogue& dialogue = dialogues[d];
    for (size_t step = 0; step < dialogue.gaps.size(); ++step) {
      if (dialogue.gaps[step] < kSureGap) continue;
      // Entry i is about prompt token i + 1.
      const TokenLogprobs& choice =
          seen.answers[d].prompt_logprobs.at(dialogue.ids.size() + step - 1);
      ASSERT_EQ(choice.top.at(0).first, dialogue.greedy_ids[step])
          << "dialogue " << d << ", step " << step << ", gap " << dialogue.gaps[step];
      ++compared;
    }
  }
  EXPECT_GT(compared, 500);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SmolLm2Ranks, ::testing::Values(1, 2, 3));

// What predicts the text of the reference's perplexity window by window, the first `window_count`.
std::vector<rank::TrialRequest> ScoredWindows(const json& facts, size_t window_count) {
  const std::vector<int32_t> ids = facts.at("ids");
  const size_t window = facts.at("window");
  std::vector<rank::TrialRequest> requests;
  for (size_t begin = 0; begin < ids.size() && requests.size() < window_count; begin += window) {
    const size_t end = std::min(ids.size(), begin + window);
    rank::TrialRequest& request =
        requests.emplace_back(Greedy({ids.begin() + begin, ids.begin() + end}, 0));
    request.params.prompt_logprobs = true;
    request.params.top_logprobs = 0;
  }
  return requests;
}

double MeanNll(const Observation& seen, int64_t expected_count) {
  double sum = 0;
  int64_t count = 0;
  for (const rank::TrialAnswer& answer : seen.answers) {
    for (const TokenLogprobs& logprobs : answer.prompt_logprobs) {
      sum -= logprobs.logprob;
      ++count;
    }
  }
  EXPECT_EQ(count, expected_count);
  return sum / count;
}

TEST(SmolLm2, HasTheReferencesPerplexity) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  SHOAL_REQUIRE_SMOLLM2(path);
  const auto model = model::Model::Open(path);
  const json facts = ReadJson(fixtures + "/smollm2/perplexity.json");
  const Observation seen = RunTrialGroup(*model, ScoredWindows(facts, SIZE_MAX), Options(1));
  EXPECT_NEAR(MeanNll(seen, facts.at("scored_tokens")), facts.at("mean_nll").get<double>(), 0.01);
}

TEST(SmolLm2, LosesLittleByAnInt8Cache) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  SHOAL_REQUIRE_SMOLLM2(path);
  const auto model = model::Model::Open(path);
  const json facts = ReadJson(fixtures + "/smollm2/perplexity.json");
  const std::vector<rank::TrialRequest> requests = ScoredWindows(facts, 3);
  const int64_t count = 3 * (facts.at("window").get<int64_t>() - 1);
  TrialGroupOptions options = Options(1);
  const double plain = MeanNll(RunTrialGroup(*model, requests, options), count);
  options.kv_dtype = KvDType::kInt8;
  const double quantised = MeanNll(RunTrialGroup(*model, requests, options), count);
  EXPECT_NE(quantised, plain);
  EXPECT_NEAR(quantised, plain, 0.01);
}

TEST(SmolLm2, GivesTheSameBitsOnOneTwoAndThreeRanks) {
  SHOAL_REQUIRE_SMOLLM2(path);
  const auto model = model::Model::Open(path);
  std::vector<rank::TrialRequest> requests = {Greedy({1, 4093, 198, 28120, 284, 260}, 12),
                                              Greedy({504, 3575, 282, 4649, 314}, 12)};
  requests[1].params.sampling = {.temperature = 0.8, .seed = 1};
  for (rank::TrialRequest& request : requests) request.params.prompt_logprobs = true;
  const Observation one = RunTrialGroup(*model, requests, Options(1));
  ASSERT_FALSE(one.digests.empty());
  for (const int ranks : {2, 3}) {
    const Observation seen = RunTrialGroup(*model, requests, Options(ranks));
    EXPECT_EQ(one.digests, seen.digests) << ranks << " ranks";
    EXPECT_TRUE(one.answers == seen.answers) << ranks << " ranks";
    EXPECT_EQ(one.numerics_id, seen.numerics_id) << ranks << " ranks";
  }
}

}  // namespace
}  // namespace shoal::test
