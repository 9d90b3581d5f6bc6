// What a rank refuses, and that the message names it.

#include "worker/engine/schedule/request_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "transport/base/error.h"

namespace shoal::engine {
namespace {

std::string Refusal(const std::vector<int32_t>& prompt, const GenerationParams& params) {
  try {
    CheckRequest({.prompt = prompt, .params = params}, 100);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(CheckRequest, TakesTheDefaults) { EXPECT_EQ(Refusal({0, 99}, {}), ""); }

TEST(CheckRequest, NamesTheParameterThatIsOutOfRange) {
  const auto with = [](auto change) {
    GenerationParams params;
    change(params);
    return Refusal({1}, params);
  };
  using ::testing::StartsWith;
  using Params = GenerationParams;
  EXPECT_THAT(with([](Params& p) { p.sampling.temperature = 1e-6; }), StartsWith("temperature is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.temperature = -1; }), StartsWith("temperature is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.temperature = std::nan(""); }),
              StartsWith("temperature is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.top_k = -1; }), StartsWith("top_k is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.top_p = 0; }), StartsWith("top_p is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.top_p = 1.5; }), StartsWith("top_p is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.min_p = 1.01; }), StartsWith("min_p is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.typical_p = 0; }), StartsWith("typical_p is 0"));
  EXPECT_THAT(with([](Params& p) { p.sampling.repetition_penalty = 0; }),
              StartsWith("repetition_penalty is 0: expected a value above 0"));
  EXPECT_THAT(with([](Params& p) { p.sampling.repetition_penalty = std::nan(""); }),
              StartsWith("repetition_penalty is"));
  EXPECT_THAT(with([](Params& p) { p.sampling.frequency_penalty = 2.5; }),
              StartsWith("frequency_penalty is 2.5: expected a value from -2 to 2"));
  EXPECT_THAT(with([](Params& p) { p.sampling.presence_penalty = -2.1; }),
              StartsWith("presence_penalty is"));
  EXPECT_THAT(with([](Params& p) {
                p.sampling.logit_bias = {{4, 100.5F}};
              }),
              StartsWith("logit_bias of token 4 is 100.5: expected a value from -100 to 100"));
  EXPECT_THAT(with([](Params& p) {
                p.sampling.logit_bias = {{4, std::nanf("")}};
              }),
              StartsWith("logit_bias of token 4 is"));
  EXPECT_THAT(with([](Params& p) {
                p.sampling.logit_bias = {{4, 1}, {5, 1}, {4, 2}};
              }),
              StartsWith("logit_bias names token 4 twice"));
  EXPECT_THAT(with([](Params& p) {
                p.sampling.logit_bias = {{100, 1}};
              }),
              StartsWith("logit_bias names token 100: expected an id from 0 to 99"));
  EXPECT_THAT(with([](Params& p) {
                p.sampling.logit_bias = {{-1, 1}};
              }),
              StartsWith("logit_bias names token -1"));
  EXPECT_THAT(with([](Params& p) { p.sampling.logit_bias.resize(kLogitBiasesMax + 1); }),
              StartsWith("logit_bias has 1025 tokens: expected at most 1024"));
  EXPECT_THAT(with([](Params& p) { p.sampling.min_tokens = -1; }), StartsWith("min_tokens is -1"));
  EXPECT_THAT(with([](Params& p) { p.grammar.text.resize(kGrammarBytesMax + 1); }),
              StartsWith("grammar has 65537 bytes: expected at most 65536"));
  EXPECT_THAT(with([](Params& p) { p.sampling.min_tokens = p.tokens_max + 1; }),
              StartsWith("min_tokens is 17: expected a value from 0 to tokens_max, 16"));
  EXPECT_THAT(with([](Params& p) { p.top_logprobs = 21; }), StartsWith("top_logprobs is"));
  EXPECT_THAT(with([](Params& p) { p.tokens_max = 0; }), StartsWith("tokens_max is"));
  EXPECT_THAT(with([](Params& p) { p.tokens_max = -1; }), StartsWith("tokens_max is"));
  EXPECT_THAT(with([](Params& p) { p.stop_ids.resize(kStopIdsMax + 1); }),
              StartsWith("stop_ids has 1025 tokens"));
}

TEST(CheckRequest, TakesEveryBound) {
  GenerationParams params;
  params.stop_ids.resize(kStopIdsMax);
  params.top_logprobs = kTopLogprobsMax;
  params.sampling.repetition_penalty = kRepetitionPenaltyMax;
  params.sampling.frequency_penalty = -kCountPenaltyMax;
  params.sampling.presence_penalty = kCountPenaltyMax;
  params.sampling.logit_bias = {{0, -kLogitBiasMax}, {99, kLogitBiasMax}};
  params.sampling.min_tokens = params.tokens_max;
  for (const double temperature : {0.0, kTemperatureMin, kTemperatureMax}) {
    params.sampling.temperature = temperature;
    EXPECT_EQ(Refusal({1}, params), "");
  }
}

TEST(CheckRequest, NamesThePromptTokenOutsideTheVocabulary) {
  EXPECT_THAT(Refusal({3, 100}, {}), ::testing::HasSubstr("prompt token 1 is 100"));
  EXPECT_THAT(Refusal({-1}, {}), ::testing::HasSubstr("prompt token 0 is -1"));
  EXPECT_THAT(Refusal({}, {}), ::testing::HasSubstr("no tokens"));
}

std::string RefusalToGoOn(const std::vector<int32_t>& generated, const GenerationParams& params) {
  try {
    CheckRequest({.prompt = {1}, .params = params, .generated = generated}, 100);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(CheckRequest, NamesWhyAnAnswerCannotGoOn) {
  using ::testing::HasSubstr;
  GenerationParams params;
  params.tokens_max = 3;
  params.stop_ids = {50, 60};
  EXPECT_EQ(RefusalToGoOn({}, params), "");
  EXPECT_EQ(RefusalToGoOn({7, 99}, params), "");
  EXPECT_THAT(RefusalToGoOn({7, 100}, params),
              HasSubstr("generated token 1 is 100: expected an id"));
  EXPECT_THAT(RefusalToGoOn({-1}, params), HasSubstr("generated token 0 is -1"));
  EXPECT_THAT(RefusalToGoOn({7, 8, 9}, params),
              HasSubstr("has 3 tokens already, tokens_max 3 were asked for: expected fewer"));
  EXPECT_THAT(RefusalToGoOn({7, 60}, params), HasSubstr("generated token 1 is 60, a stop id"));
  params.tokens_max = 0;
  params.prompt_logprobs = true;
  EXPECT_EQ(RefusalToGoOn({}, params), "");
  EXPECT_THAT(RefusalToGoOn({7}, params), HasSubstr("has 1 tokens already"));
}

}  // namespace
}  // namespace shoal::engine
