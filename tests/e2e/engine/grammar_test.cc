// Answers of some structure from whole groups: whatever the weights, and the same bits at every
// cut.

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":5},"ok":{"type":)"
    R"("boolean"},"size":{"type":"integer","minimum":-5,"maximum":40},"tags":{"type":"array",)"
    R"("items":{"enum":["ab","cd"]},"maxItems":2}},"required":["name","ok","size"]})";

std::vector<GrammarSource> Sources() {
  return {{GrammarKind::kJsonSchema, kSchema},
          {GrammarKind::kRegex, "[a-z]{3,9}( [0-9]{1,4}){2}"},
          {GrammarKind::kChoice, R"(["yes","no","perhaps"])"},
          {GrammarKind::kNone, ""}};
}

// Each source with each way of choosing: by maximum on every rank, and from all logits.
std::vector<rank::TrialRequest> Requests(const model::ModelConfig& config) {
  const std::vector<SamplingParams> samplings = {{.temperature = 0},
                                                 {.temperature = 1, .seed = 1},
                                                 {.temperature = 2, .top_k = 20, .seed = 2},
                                                 {.temperature = 1, .top_p = 0.9, .seed = 3}};
  std::vector<rank::TrialRequest> requests;
  for (const GrammarSource& source : Sources()) {
    for (const SamplingParams& sampling : samplings) {
      rank::TrialRequest& request = requests.emplace_back();
      for (int i = 0; i < 20; ++i) {
        request.prompt.push_back(static_cast<int32_t>((i * 37 + requests.size()) % 256));
      }
      request.params.sampling = sampling;
      request.params.tokens_max = 150;
      request.params.stop_ids = config.eos_ids;
      request.params.grammar = source;
      request.arrival_step = static_cast<int64_t>(requests.size() % 5);
    }
  }
  return requests;
}

std::string TextOf(const text::Tokenizer& tokenizer, const rank::TrialAnswer& answer) {
  return tokenizer.Decode(answer.tokens, true);
}

void ExpectStructure(const GrammarSource& source, const std::string& text) {
  switch (source.kind) {
    case GrammarKind::kJsonSchema: {
      const auto value = nlohmann::json::parse(text, nullptr, false);
      ASSERT_TRUE(value.is_object()) << text;
      EXPECT_TRUE(value.at("name").is_string() && value.at("ok").is_boolean()) << text;
      const auto size = value.at("size").get<int64_t>();
      EXPECT_TRUE(size >= -5 && size <= 40) << text;
      for (const auto& tag : value.value("tags", nlohmann::json::array())) {
        EXPECT_TRUE(tag == "ab" || tag == "cd") << text;
      }
      return;
    }
    case GrammarKind::kChoice:
      EXPECT_TRUE(text == "yes" || text == "no" || text == "perhaps") << text;
      return;
    default:
      EXPECT_TRUE(text.size() >= 7 && text.find(' ') != std::string::npos) << text;
  }
}

class GrammarCuts : public ::testing::Test {
 protected:
  GrammarCuts()
      : model_(model::Model::Open(WriteModel(Q4_1Spec(), folder_.path()))),
        tokenizer_(text::Tokenizer::Make(*model_)) {}

  const ScratchFolder folder_;
  const std::unique_ptr<model::Model> model_;
  const std::unique_ptr<text::Tokenizer> tokenizer_;
};

TEST_F(GrammarCuts, AnswersHoldToTheirGrammarAndEveryCutGivesTheSame) {
  const std::vector<rank::TrialRequest> requests = Requests(model_->config());
  TrialGroupOptions options;
  options.record_logits = false;
  const Observation reference = RunTrialGroup(*model_, requests, options);
  for (size_t i = 0; i < requests.size(); ++i) {
    const rank::TrialAnswer& answer = reference.answers[i];
    if (requests[i].params.grammar.kind == GrammarKind::kNone) continue;
    ASSERT_EQ(answer.finish, FinishReason::kStop) << TextOf(*tokenizer_, answer);
    ExpectStructure(requests[i].params.grammar, TextOf(*tokenizer_, answer));
  }
  const std::pair<plan::Cut, int64_t> runs[] = {
      {{2, 1}, 512}, {{3, 1}, 7}, {{1, 3}, 512}, {{2, 2}, 64}};
  for (const auto& [cut, kv_blocks] : runs) {
    SCOPED_TRACE(Str("tensor ", cut.tensor_parallel, ", pipeline ", cut.pipeline_parallel));
    options.cut = cut;
    // Few blocks: sequences are preempted and begin again in the middle of their grammar.
    options.kv_block_count = kv_blocks;
    const Observation seen = RunTrialGroup(*model_, requests, options);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(seen.answers[i].tokens, reference.answers[i].tokens) << "request " << i;
    }
  }
}

TEST_F(GrammarCuts, AnAnswerCutByItsLengthIsTheBeginningOfAMatch) {
  std::vector<rank::TrialRequest> requests = Requests(model_->config());
  const Observation whole = RunTrialGroup(*model_, requests, {});
  for (rank::TrialRequest& request : requests) request.params.tokens_max = 4;
  const Observation cut = RunTrialGroup(*model_, requests, {});
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::vector<int32_t>& tokens = cut.answers[i].tokens;
    ASSERT_LE(tokens.size(), 4u);
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), whole.answers[i].tokens.begin()));
  }
}

TEST_F(GrammarCuts, OnlyTheEndFollowsWhereItDoesNotEndASequence) {
  std::vector<rank::TrialRequest> requests(1);
  requests[0].prompt = {1, 2, 3};
  requests[0].params.tokens_max = 12;
  requests[0].params.grammar = {GrammarKind::kChoice, R"(["yes"])"};
  const Observation seen = RunTrialGroup(*model_, requests, {});
  const std::vector<int32_t>& tokens = seen.answers[0].tokens;
  ASSERT_EQ(tokens.size(), 12u);
  EXPECT_EQ(TextOf(*tokenizer_, seen.answers[0]), "yes");
  EXPECT_EQ(tokens.back(), model_->config().eos_ids[0]);
}

}  // namespace
}  // namespace shoal::test
