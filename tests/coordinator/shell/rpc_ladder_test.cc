// What upstream programs get while the model that they ask for cannot answer.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "coordinator/shell/rpc_gateway.h"
#include "tests/coordinator/gateway/fakes.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

namespace shoal::gateway {
namespace {

struct HearingSink : rpc::GenerationSink {
  void Tokens(const SequenceUpdate&, const std::string& more) override { text += more; }
  void Finish(const SequenceUpdate&, const std::string& more) override { text += more; }
  void Fail(const StreamError&) override { text += "failed"; }
  std::string text;
};

class RpcLadder : public ::testing::Test {
 protected:
  RpcLadder() {
    const std::string path = test::WriteModel(test::Q4_1Spec(), folder_.path());
    ladder_ = std::make_unique<Degrader>(
        Rungs("rungs: [{kind: model, path: q4_1.gguf, quality: 1, cost: 1}]"), http_.generation,
        http_.timer);
    rpc_ = std::make_unique<RpcGateway>(
        http_.generation, http_.text, [] { return uint64_t{7}; }, http_.port, "", nullptr,
        ladder_.get());
    http_.generation.refusals[""] = BusyReason::kQueueFull;
    http_.generation.others = {{.name = "little",
                                .numerics_id = "22222222222222222222222222222222",
                                .context_tokens = 400,
                                .kv_cache_tokens = 400,
                                .vocab_size = 520,
                                .model_name = "q4_1",
                                .groups_ready = 1}};
    request_.prompt = std::string("hello there");
    request_.params.tokens_max = 4;
    request_.resumable = true;
  }

  std::shared_ptr<const LadderRungs> Rungs(const std::string& yaml) const {
    return std::make_shared<const LadderRungs>(
        ReadLadder(config::YamlMap::ReadText(yaml, "ladder.yaml"), folder_.path()), http_.text);
  }

  rpc::GenerateReply Ask() {
    return rpc_->OnGenerate(
        request_, std::move(*rpc_->OnPrompt(request_, {}).wait(http_.wait_scope)), {}, sink_);
  }

  test::ScratchFolder folder_;
  GatewayFixture http_;
  std::unique_ptr<Degrader> ladder_;
  HearingSink sink_;
  std::unique_ptr<RpcGateway> rpc_;
  rpc::GenerateRequest request_;
};

TEST_F(RpcLadder, AnotherModelAnswersAndTheReplySaysSo) {
  const rpc::GenerateReply reply = Ask();
  ASSERT_NE(reply.generation, 0U) << reply.refusal.message;
  EXPECT_EQ(reply.model_used, "little");
  EXPECT_EQ(reply.rung, 1);
  EXPECT_EQ(reply.cursor, "") << "another model cannot be gone on with";
  const ModelText text(folder_.path() + "/q4_1.gguf");
  const text::Tokenizer& tokenizer = *text.Service().tokenizer;
  ASSERT_EQ(http_.generation.sequences.size(), 1U);
  EXPECT_EQ(http_.generation.sequences[0].model, "little");
  EXPECT_EQ(http_.generation.sequences[0].prompt,
            tokenizer.Encode("hello there", text::SpecialTokens::kRecognized));
  EXPECT_EQ(reply.prompt_tokens, std::ssize(http_.generation.sequences[0].prompt));
  http_.generation.Finish(0, FinishReason::kStop,
                          tokenizer.Encode("hi", text::SpecialTokens::kPlainText));
  EXPECT_EQ(sink_.text, "hi");
}

TEST_F(RpcLadder, TheModelItselfAnswersIfItCan) {
  http_.generation.refusals.clear();
  const rpc::GenerateReply reply = Ask();
  EXPECT_NE(reply.generation, 0U);
  EXPECT_EQ(reply.rung, 0);
  EXPECT_EQ(reply.model_used, "");
  EXPECT_NE(reply.cursor, "");
}

TEST_F(RpcLadder, WhatNobodyCanHonourIsRefusedAsTheModelDoes) {
  request_.terms.may_degrade = false;
  EXPECT_EQ(Ask().refusal.reason, BusyReason::kQueueFull);
  request_.terms.may_degrade = true;
  request_.prompt = std::vector<int32_t>{1, 2};  // They mean something else to the other model.
  EXPECT_EQ(Ask().refusal.reason, BusyReason::kQueueFull);
  request_.prompt = std::string("hello there");
  http_.generation.refusals["little"] = BusyReason::kKvFull;
  EXPECT_EQ(Ask().refusal.reason, BusyReason::kQueueFull);
  http_.generation.refusals[""] = BusyReason::kQuotaExceeded;
  http_.generation.refusals.erase("little");
  EXPECT_EQ(Ask().refusal.reason, BusyReason::kQuotaExceeded);
  EXPECT_TRUE(http_.generation.sequences.empty());
}

TEST_F(RpcLadder, AnAnswerKeepsItsTokenizerWhenTheFileIsReadAgain) {
  const rpc::GenerateReply reply = Ask();
  ASSERT_EQ(reply.rung, 1) << reply.refusal.message;
  const ModelText text(folder_.path() + "/q4_1.gguf");
  std::ofstream(folder_.path() + "/rules.yaml") << "rules: [{name: a, words: [b], answer: c}]\n";
  ladder_->SetRungs(Rungs("rungs: [{kind: rules, file: rules.yaml, quality: 1, cost: 1}]"));
  http_.generation.Finish(0, FinishReason::kStop,
                          text.Service().tokenizer->Encode("hi", text::SpecialTokens::kPlainText));
  EXPECT_EQ(sink_.text, "hi");
  EXPECT_EQ(Ask().refusal.reason, BusyReason::kQueueFull) << "that model is no rung any more";
}

TEST_F(RpcLadder, ItsLevelIsThatOfBothDoors) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Ask().rung, 1);
  EXPECT_EQ(ladder_->level(), 1);
  const size_t before = http_.generation.sequences.size();
  HttpGatewayOptions options;
  options.ladder = ladder_.get();
  http_.gateway = std::make_unique<HttpGateway>(std::move(options), http_.generation, http_.text,
                                                http_.timer, http_.port);
  http_.generation.refusals.clear();  // The model would answer, were it asked first.
  auto client = http_.Connect();
  client->Request("POST", "/v1/completions", R"({"prompt":"hello there","max_tokens":4})");
  ASSERT_EQ(http_.generation.sequences.size(), before + 1) << client->received();
  EXPECT_EQ(http_.generation.sequences.back().model, "little");
  client->HangUp();
  http_.gateway.reset();
}

}  // namespace
}  // namespace shoal::gateway
