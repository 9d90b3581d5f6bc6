// What a sequence's parameters, tokens and grammar make of the choice of its next token.

#include "worker/forward/choice/sequence_rules.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

namespace shoal::forward {
namespace {

class SequenceRulesTest : public testing::Test {
 protected:
  SequenceRulesTest()
      : model_(model::Model::Open(test::WriteModel(test::Q4_1Spec(), folder_.path()))) {}

  // Two sequences: of three prompt tokens and one generated one, and a plain one.
  void Start(const GenerationParams& params) {
    engine::StepPlan plan;
    plan.starts = {
        {.slot = 0,
         .id = 0,
         .tokens = {5, 6, 7, 40},
         .prompt_count = 3,
         .params = params,
         .blocks = {}},
        {.slot = 1, .id = 1, .tokens = {1}, .prompt_count = 1, .params = {}, .blocks = {}}};
    Apply(plan);
  }

  void End() {
    engine::StepPlan plan;
    plan.ends = {0, 1};
    Apply(plan);
  }

  void Apply(const engine::StepPlan& plan) {
    sequences_.Apply(plan);
    rules_.Apply(plan);
  }

  // Of the token after the one at `position` of the first sequence.
  engine::ChoiceRules RulesAfter(int64_t position) {
    Row row;
    row.position = position;
    return rules_.Of(row);
  }

  const test::ScratchFolder folder_;
  const std::unique_ptr<model::Model> model_;
  SequenceTable sequences_{2};
  SequenceRules rules_{*model_, sequences_, 2};
};

TEST_F(SequenceRulesTest, PlainParametersEditNothing) {
  Start({});
  const engine::ChoiceRules rules = RulesAfter(3);
  EXPECT_EQ(rules.position, 4U);
  EXPECT_FALSE(rules.edits());
  EXPECT_FALSE(rules_.HasState(0));
}

TEST_F(SequenceRulesTest, StopIdsAreWithheldUntilEnoughTokensAreGenerated) {
  GenerationParams params;
  params.stop_ids = {9};
  params.sampling.min_tokens = 2;
  Start(params);
  EXPECT_EQ(RulesAfter(2).withheld.size(), 1U) << "the first token";
  EXPECT_EQ(RulesAfter(3).withheld.size(), 1U) << "the second";
  params.sampling.min_tokens = 1;
  End();
  Start(params);
  EXPECT_EQ(RulesAfter(2).withheld.size(), 1U);
  EXPECT_TRUE(RulesAfter(3).withheld.empty());
}

TEST_F(SequenceRulesTest, PenaltiesSeeTheTokensUpToTheRow) {
  GenerationParams params;
  params.sampling.presence_penalty = 0.5;
  Start(params);
  EXPECT_TRUE(rules_.HasState(0));
  EXPECT_FALSE(rules_.HasState(1));
  const auto generated = [](const engine::ChoiceRules& rules) {
    int64_t count = 0;
    for (const engine::TokenHistory::Seen& seen : rules.history->seen()) count += seen.generated;
    return count;
  };
  ASSERT_NE(RulesAfter(2).history, nullptr);
  EXPECT_EQ(generated(RulesAfter(2)), 0);
  EXPECT_EQ(generated(RulesAfter(3)), 1);
}

TEST_F(SequenceRulesTest, AGrammarLastsAsLongAsItsSequence) {
  GenerationParams params;
  params.grammar = {.kind = GrammarKind::kRegex, .text = "[ab]+"};
  Start(params);
  EXPECT_TRUE(rules_.HasState(0));
  EXPECT_FALSE(RulesAfter(2).allowed.empty());
  End();
  Start({});
  EXPECT_FALSE(rules_.HasState(0));
  EXPECT_TRUE(RulesAfter(2).allowed.empty());
}

TEST_F(SequenceRulesTest, RefusesAGrammarThatCannotBeCompiled) {
  EXPECT_NO_THROW(rules_.CheckGrammar({}));
  EXPECT_NO_THROW(rules_.CheckGrammar({.kind = GrammarKind::kRegex, .text = "a|b"}));
  try {
    rules_.CheckGrammar({.kind = GrammarKind::kRegex, .text = "(a"});
    ADD_FAILURE() << "compiled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal::forward
