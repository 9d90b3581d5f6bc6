// Penalties, bias and masks on logits, by hand and against the definition, and TokenHistory.

#include "worker/engine/choice/choice_rules.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "tests/worker/engine/choice/sampler_cases.h"

namespace shoal::engine {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

std::vector<float> Edited(const ReferenceCase& c) {
  const CaseRules rules(c);
  std::vector<float> logits = c.logits;
  EditLogits(logits, 0, rules.get());
  return logits;
}

TEST(EditLogits, RepetitionMovesPromptAndGeneratedTokensTowardsUnlikely) {
  ReferenceCase c;
  c.logits = {2, -2, 2, -2, 0};
  c.tokens = {0, 1, 0, 4};
  c.prompt_count = 2;
  c.sampling.repetition_penalty = 4;
  EXPECT_EQ(Edited(c), (std::vector<float>{0.5, -8, 2, -2, 0}));
}

TEST(EditLogits, FrequencyAndPresenceCountGeneratedTokensOnly) {
  ReferenceCase c;
  c.logits = {1, 1, 1, 1};
  c.tokens = {0, 0, 1, 1, 1, 2};
  c.prompt_count = 2;
  c.sampling.frequency_penalty = 0.5;
  EXPECT_EQ(Edited(c), (std::vector<float>{1, -0.5, 0.5, 1}));
  c.sampling.presence_penalty = -2;
  EXPECT_EQ(Edited(c), (std::vector<float>{1, 1.5, 2.5, 1}));
}

TEST(EditLogits, AddsBiasAfterPenalties) {
  ReferenceCase c;
  c.logits = {4, 1};
  c.tokens = {0};
  c.sampling.repetition_penalty = 2;
  c.sampling.logit_bias = {{0, 10}};
  EXPECT_EQ(Edited(c), (std::vector<float>{12, 1}));
}

TEST(EditLogits, RemovesStopIdsAndWhatTheGrammarForbids) {
  ReferenceCase c;
  c.logits = {1, 2, 3, 4};
  c.stop_ids = {3};
  c.sampling.min_tokens = 1;
  EXPECT_EQ(Edited(c), (std::vector<float>{1, 2, 3, kRemoved}));
  c.allowed = {false, true, false, true};
  EXPECT_EQ(Edited(c), (std::vector<float>{kRemoved, 2, kRemoved, kRemoved}));
}

TEST(EditLogits, StaysFiniteWhateverThePenalties) {
  const float highest = std::numeric_limits<float>::max();
  ReferenceCase c;
  c.logits = {-highest, highest, 1, -highest};
  c.tokens = {0, 1, 2};
  c.sampling.repetition_penalty = 1e5;
  c.sampling.logit_bias = {{3, -100}};
  EXPECT_EQ(Edited(c), (std::vector<float>{-highest, static_cast<float>(highest / 1e5),
                                           static_cast<float>(1e-5), -highest}));
  c.sampling.repetition_penalty = 1e-5;
  EXPECT_EQ(Edited(c)[1], highest);
}

TEST(EditLogits, SaysWhatIsLeftOfARange) {
  const SamplingParams sampling;
  const std::vector<int32_t> withheld = {64, 70};
  const std::vector<uint64_t> all = {~0ULL, ~0ULL};
  const std::vector<uint64_t> only_seventy = {0, 1ULL << 6};
  std::vector<float> logits = {1, 2};
  EXPECT_EQ(EditLogits(logits, 64, {.sampling = sampling, .withheld = withheld, .allowed = all}),
            RangeLeft::kTokens);
  EXPECT_EQ(logits, (std::vector<float>{kRemoved, 2}));
  logits = {1};
  EXPECT_EQ(EditLogits(logits, 64, {.sampling = sampling, .withheld = withheld, .allowed = all}),
            RangeLeft::kOnlyWithheld);
  EXPECT_EQ(logits, (std::vector<float>{1}));
  EXPECT_EQ(
      EditLogits(logits, 64, {.sampling = sampling, .withheld = withheld, .allowed = only_seventy}),
      RangeLeft::kNothing);
  EXPECT_EQ(logits, (std::vector<float>{kRemoved}));
}

TEST(EditLogits, FollowsTheDefinitionForEveryCombinationOfRules) {
  std::mt19937 random(2);
  for (uint32_t round = 0; round < 640; ++round) {
    const ReferenceCase c = RandomCase(random, 130, round % 64);
    const std::vector<std::optional<float>> expected = EditedByDefinition(c);
    const std::vector<float> edited = Edited(c);
    for (size_t id = 0; id < edited.size(); ++id) {
      ASSERT_EQ(edited[id], expected[id].value_or(kRemoved)) << "round " << round << " id " << id;
    }
  }
}

// Sequences grow, lose their ends, and give way to others: the counts are those of the tokens that
// are there.
TEST(TokenHistory, CountsTheTokensOfTheLastCallAlone) {
  std::mt19937 random(1);
  TokenHistory history;
  std::vector<int32_t> tokens;
  int64_t prompt_count = 0;
  for (int round = 0; round < 3000; ++round) {
    switch (random() % 12) {
      case 0:  // Another sequence.
        tokens.resize(random() % 3);
        prompt_count = static_cast<int64_t>(random() % 5);
        break;
      case 1:  // Some of its end is taken back.
        tokens.resize(tokens.size() - random() % (tokens.size() + 1) / 2);
        break;
      default:
        tokens.push_back(static_cast<int32_t>(random() % 6));
    }
    history.Follow(tokens, prompt_count);
    std::map<int32_t, TokenHistory::Seen> seen;
    for (const TokenHistory::Seen& entry : history.seen()) {
      EXPECT_TRUE(seen.emplace(entry.token, entry).second) << "listed twice";
    }
    for (int32_t token = 0; token < 6; ++token) {
      bool in_prompt = false;
      uint32_t generated = 0;
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] != token) continue;
        if (static_cast<int64_t>(i) < prompt_count) in_prompt = true;
        if (static_cast<int64_t>(i) >= prompt_count) ++generated;
      }
      ASSERT_EQ(seen[token].in_prompt, in_prompt) << "round " << round << " token " << token;
      ASSERT_EQ(seen[token].generated, generated) << "round " << round << " token " << token;
    }
  }
}

}  // namespace
}  // namespace shoal::engine
