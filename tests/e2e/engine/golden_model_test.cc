// The float models of the reference data, at every cut they allow: logits near the reference's,
// greedy tokens equal to it.

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/model/golden.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

struct Case {
  std::string model;
  plan::Cut cut;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.model << " tensor " << c.cut.tensor_parallel << " pipeline " << c.cut.pipeline_parallel;
}

class GoldenModel : public ::testing::TestWithParam<Case> {};

std::vector<rank::TrialRequest> Requests(const GoldenData& golden, bool prompt_logprobs,
                                         int64_t tokens_max) {
  std::vector<rank::TrialRequest> requests;
  for (const GoldenPrompt& prompt : golden.prompts) {
    rank::TrialRequest& request = requests.emplace_back();
    request.prompt = prompt.ids;
    request.params.sampling.temperature = 0;
    request.params.tokens_max = tokens_max;
    request.params.prompt_logprobs = prompt_logprobs;
  }
  return requests;
}

TEST_P(GoldenModel, GivesTheReferenceLogitsWithinTenYardsticks) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  const GoldenData golden = ReadGolden(fixtures, GetParam().model);
  const auto model = model::Model::Open(fixtures + "/tiny/" + GetParam().model);
  const Observation seen =
      RunTrialGroup(*model, Requests(golden, /*prompt_logprobs=*/true, 1),
                    {.cut = GetParam().cut, .kv_dtype = KvDType::kF32, .keep_logits = true});
  const int64_t vocab_size = model->config().vocab_size;
  double worst = 0;
  for (size_t p = 0; p < golden.prompts.size(); ++p) {
    const GoldenPrompt& prompt = golden.prompts[p];
    for (size_t position = 0; position < prompt.ids.size(); ++position) {
      const auto found = seen.logits.find({p, position});
      ASSERT_NE(found, seen.logits.end()) << "prompt " << p << ", position " << position;
      ASSERT_EQ(found->second.size(), static_cast<size_t>(vocab_size));
      for (int64_t i = 0; i < vocab_size; ++i) {
        const double difference =
            std::abs(double{found->second[i]} - prompt.logits[position * vocab_size + i]);
        ASSERT_LE(difference, 10 * golden.yardstick)
            << "prompt " << p << ", position " << position << ", token " << i;
        worst = std::max(worst, difference);
      }
    }
  }
  RecordProperty("worst_in_yardsticks", std::to_string(worst / golden.yardstick));
}

TEST_P(GoldenModel, ContinuesGreedilyAsTheReferenceDoes) {
  SHOAL_REQUIRE_FIXTURES(fixtures);
  const GoldenData golden = ReadGolden(fixtures, GetParam().model);
  const auto model = model::Model::Open(fixtures + "/tiny/" + GetParam().model);
  const Observation seen = RunTrialGroup(
      *model, Requests(golden, /*prompt_logprobs=*/false, golden.prompts.front().greedy_ids.size()),
      {.cut = GetParam().cut});
  ASSERT_EQ(seen.answers.size(), golden.prompts.size());
  for (size_t p = 0; p < golden.prompts.size(); ++p) {
    EXPECT_EQ(seen.answers[p].tokens, golden.prompts[p].greedy_ids) << "prompt " << p;
  }
}

// llama has 4 heads, 6 MLP leaves and 2 layers; llama_tied 9, 6 and 4; llama_v5_config 4, 4 and 2.
// 640 vocabulary rows are 10 units, so heads and MLP leaves limit the cut.
std::vector<Case> EveryCut() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& model, int tensor_max, int pipeline_max) {
    for (int tensor = 1; tensor <= tensor_max; ++tensor) {
      for (int pipeline = 1; pipeline <= pipeline_max; ++pipeline) {
        cases.push_back({model, {tensor, pipeline}});
      }
    }
  };
  add("llama", 4, 2);
  add("llama_tied", 6, 2);
  add("llama_v5_config", 4, 2);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Cuts, GoldenModel, ::testing::ValuesIn(EveryCut()), [](const auto& info) {
  return info.param.model + "_" + std::to_string(info.param.cut.tensor_parallel) + "x" +
         std::to_string(info.param.cut.pipeline_parallel);
});

}  // namespace
}  // namespace shoal::test
