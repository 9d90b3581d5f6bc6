// What clients get over HTTP while the model cannot answer: which rung, and what it says of itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "coordinator/gateway/ladder/degrader.h"
#include "tests/coordinator/gateway/fakes.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";
constexpr char kLadder[] = R"(
quality_floor: {critical_plus: 1}
step_down: {refusals: 3, within: 10s}
hold: 60s
rungs:
  - {kind: model, path: q4_1.gguf, quality: 0.6, cost: 0.3}
  - {kind: cache, quality: 0.9, cost: 0}
  - {kind: rules, file: rules.yaml, quality: 0.5, cost: 0}
  - {kind: knowledge, folder: texts, quality: 0.4, cost: 0}
)";

class Degraded : public ::testing::Test {
 protected:
  Degraded() {
    test::WriteModel(test::Q4_1Spec(), folder_.path());
    std::ofstream(folder_.path() + "/rules.yaml")
        << "rules:\n  - {name: hours, words: [opening, hours], answer: From nine to five.}\n";
    std::filesystem::create_directory(folder_.path() + "/texts");
    std::ofstream(folder_.path() + "/texts/house.md") << "The heater stands in the cellar.\n";
    ladder_ = std::make_unique<Degrader>(Rungs(kLadder), http_.generation, http_.timer);
    HttpGatewayOptions options;
    options.ladder = ladder_.get();
    options.unix_seconds = [] { return int64_t{1000}; };
    http_.gateway = std::make_unique<HttpGateway>(std::move(options), http_.generation, http_.text,
                                                  http_.timer, http_.port);
    http_.generation.refusals["bytes"] = BusyReason::kQueueFull;
  }
  ~Degraded() override { http_.gateway.reset(); }

  std::shared_ptr<const LadderRungs> Rungs(const char* yaml) const {
    return std::make_shared<const LadderRungs>(
        ReadLadder(config::YamlMap::ReadText(yaml, "ladder.yaml"), folder_.path()), http_.text);
  }
  void OfferOther() {
    http_.generation.others = {{.name = "little",
                                .numerics_id = "22222222222222222222222222222222",
                                .context_tokens = 4'000,
                                .kv_cache_tokens = 4'000,
                                .vocab_size = 520,
                                .model_name = "q4_1",
                                .groups_ready = 1}};
  }
  Reply Ask(const json& body, std::string_view headers = "") {
    return http_.Post(body.contains("messages") ? kChat : kCompletions, body.dump(), headers);
  }
  static json Talk(const std::string& question) {
    return {{"messages", {{{"role", "user"}, {"content", question}}}}};
  }
  std::vector<core::Record> RecordsOf(core::RecordKind kind) const {
    std::vector<core::Record> found;
    for (const core::Record& record : http_.generation.records) {
      if (record.kind == kind) found.push_back(record);
    }
    return found;
  }

  test::ScratchFolder folder_;
  GatewayFixture http_;
  std::unique_ptr<Degrader> ladder_;
};

TEST_F(Degraded, RulesAnswerAndSaySo) {
  const Reply reply = Ask(Talk("Your opening hours?"), "X-Request-Id: mine\r\n");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = reply.json();
  EXPECT_EQ(body["choices"][0]["message"]["content"], "From nine to five.");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["model"], "rules");
  EXPECT_EQ(body["x_shoal"], json({{"degraded", true},
                                   {"model_used", "rules"},
                                   {"rung", 3},
                                   {"kind", "rules"},
                                   {"offline", true},
                                   {"source", "rule hours"}}));
  EXPECT_EQ(body["usage"]["completion_tokens"], 18) << "a byte each";
  EXPECT_EQ(reply.headers.at("x-shoal-degraded"), "3");
  const auto records = RecordsOf(core::RecordKind::kDegraded);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].request, "mine");
  EXPECT_EQ(records[0].reason, BusyReason::kQueueFull);
  EXPECT_EQ(records[0].figures[0], (core::RecordFigure{"rung", 3, "the ladder"}));
  const std::string metrics = http_.Get("/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("shoal_degraded_total{rung=\"3\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("shoal_degraded_total{rung=\"1\"} 0\n"));
}

TEST_F(Degraded, AStreamSaysSoInItsFirstEvent) {
  json ask = Talk("where is the heater");
  ask["messages"][0]["content"] = "the heater stands in the cellar";
  ask["stream"] = true;
  ask["n"] = 2;
  const Reply reply = Ask(ask);
  ASSERT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(reply.headers.at("x-shoal-degraded"), "4");
  const std::vector<std::string> events = reply.events();
  const json first = json::parse(events.at(0));
  EXPECT_EQ(first["x_shoal"]["model_used"], "knowledge");
  EXPECT_EQ(first["x_shoal"]["source"], "house.md, paragraph 1");
  EXPECT_EQ(json::parse(events.at(1))["choices"][0]["delta"]["content"],
            "The heater stands in the cellar.");
  EXPECT_FALSE(json::parse(events.at(1)).contains("x_shoal")) << "said once";
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(Degraded, AnotherModelAnswersByItsOwnTokenizer) {
  OfferOther();
  auto client = http_.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"opening hours","max_tokens":4})");
  ASSERT_EQ(http_.generation.sequences.size(), 1U) << client->received();
  const FakeGeneration::Sequence& sequence = http_.generation.sequences[0];
  EXPECT_EQ(sequence.model, "little");
  EXPECT_EQ(sequence.numerics_id, "22222222222222222222222222222222");
  const ModelText text(folder_.path() + "/q4_1.gguf");
  EXPECT_EQ(sequence.prompt,
            text.Service().tokenizer->Encode("opening hours", text::SpecialTokens::kRecognized));
  const std::vector<int32_t> answer =
      text.Service().tokenizer->Encode(" fine", text::SpecialTokens::kPlainText);
  http_.generation.Finish(0, FinishReason::kStop, answer);
  http_.Poll();
  const Reply reply = client->TakeReply();
  const json body = reply.json();
  EXPECT_EQ(body["choices"][0]["text"], " fine");
  EXPECT_EQ(body["model"], "little");
  EXPECT_EQ(body["system_fingerprint"], "fp_2222222222222222");
  EXPECT_EQ(body["x_shoal"], json({{"degraded", true},
                                   {"model_used", "little"},
                                   {"rung", 1},
                                   {"kind", "model"},
                                   {"offline", false}}));
  EXPECT_EQ(reply.headers.at("x-shoal-degraded"), "1");
}

TEST_F(Degraded, ALongPromptIsEncodedBesideTheLoop) {
  OfferOther();
  http_.generation.served.context_tokens = 9'000;
  auto client = http_.Connect();
  client->Request("POST", kCompletions,
                  json({{"prompt", std::string(2'500, 'a')}, {"max_tokens", 4}}).dump());
  ASSERT_TRUE(http_.PollUntil([&] { return http_.generation.sequences.size() == 1; }));
  EXPECT_EQ(http_.generation.sequences[0].model, "little");
  http_.generation.Finish(0, FinishReason::kStop);
  http_.Poll();
  EXPECT_EQ(client->TakeReply().json()["x_shoal"]["rung"], 1);
}

TEST_F(Degraded, AClientMayRefuseIt) {
  const Reply refused = Ask(Talk("opening hours"), "X-Shoal-Degrade: 0\r\n");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.json()["error"]["code"], "queue_full");
  EXPECT_EQ(Ask(Talk("opening hours"), "X-Shoal-Degrade: 1\r\n").status, 200);
  EXPECT_EQ(Ask(Talk("opening hours"), "X-Shoal-Degrade: no\r\n").status, 400);
}

TEST_F(Degraded, WhatNoRungCanHonourIsRefused) {
  const json asks[] = {
      {{"logprobs", 1}},
      {{"echo", true}},
      {{"return_token_ids", true}},
      {{"response_format", {{"type", "json_object"}}}},
      {{"prompt", {"opening hours", "opening hours"}}},
      {{"prompt", {1, 2, 3}}},
      {{"prompt", "no rule and no text is about this"}},
  };
  for (const json& ask : asks) {
    json body = {{"prompt", "opening hours"}, {"max_tokens", 8}};
    body.merge_patch(ask);
    const Reply reply = Ask(body);
    EXPECT_EQ(reply.status, 503) << body << reply.body;
    EXPECT_EQ(reply.json()["error"]["code"], "queue_full") << body;
    EXPECT_FALSE(reply.headers.contains("x-shoal-degraded"));
  }
  OfferOther();  // Its ids mean something else.
  EXPECT_EQ(Ask({{"prompt", {1, 2, 3}}, {"max_tokens", 8}}).status, 503);
  EXPECT_TRUE(http_.generation.sequences.empty());
}

// Neither a rule's text nor what is kept of an earlier answer can call.
TEST_F(Degraded, WhoOffersToolsGetsNoText) {
  json ask = Talk("Your opening hours?");
  ask.update({{"tools", {{{"type", "function"}, {"function", {{"name", "look"}}}}}},
              {"max_tokens", 90},
              {"temperature", 0}});
  EXPECT_EQ(Ask(ask).status, 503);
  http_.generation.refusals.clear();
  http_.generation.served.context_tokens = 1'000;
  auto client = http_.Connect();
  client->Request("POST", kChat, ask.dump());
  ASSERT_EQ(http_.generation.sequences.size(), 1U) << client->received();
  http_.generation.Deliver(0, "<tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call>");
  http_.generation.Finish(0, FinishReason::kStop);
  http_.Poll();
  EXPECT_EQ(client->TakeReply().json()["choices"][0]["finish_reason"], "tool_calls");
  http_.generation.refusals["bytes"] = BusyReason::kQueueFull;
  EXPECT_EQ(Ask(ask).status, 503) << "the earlier answer was given without its call";
}

TEST_F(Degraded, TheRequestsOwnFaultsAreNoReason) {
  http_.generation.refusals["bytes"] = BusyReason::kQuotaExceeded;
  EXPECT_EQ(Ask(Talk("opening hours")).json()["error"]["code"], "quota_exceeded");
  http_.generation.refusals["bytes"] = BusyReason::kRequestSuspect;
  EXPECT_EQ(Ask(Talk("opening hours")).json()["error"]["code"], "request_suspect");
  EXPECT_EQ(Ask({{"prompt", ""}}).status, 400);
}

TEST_F(Degraded, AGroupLostBeforeTheFirstTokenIsAReason) {
  http_.generation.refusals.clear();
  auto client = http_.Connect();
  client->Request("POST", kChat, Talk("opening hours").dump());
  http_.generation.Fail(0, BusyReason::kGroupLost);
  http_.Poll();
  EXPECT_EQ(client->TakeReply().json()["x_shoal"]["rung"], 3);

  auto later = http_.Connect();
  later->Request("POST", kChat, Talk("opening hours").dump());
  http_.generation.Deliver(1, "Fro");
  http_.generation.Fail(1, BusyReason::kGroupLost);
  http_.Poll();
  EXPECT_EQ(later->TakeReply().status, 503) << "something had come";
}

TEST_F(Degraded, AStreamThatHasOnlyBeenKeptAliveGoesOnAtALowerRung) {
  http_.generation.refusals.clear();
  json ask = Talk("opening hours");
  ask["stream"] = true;
  auto client = http_.Connect();
  client->Request("POST", kChat, ask.dump());
  http_.Advance(11'000);
  ASSERT_THAT(client->received(), HasSubstr(": keep-alive"));
  http_.generation.Fail(0, BusyReason::kGroupLost);
  http_.Poll();
  const Reply reply = client->TakeReply();
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(json::parse(reply.events().at(0))["x_shoal"]["rung"], 3);
  EXPECT_EQ(reply.events().back(), "[DONE]");
}

TEST_F(Degraded, WhereNoRungAnswersTheFirstRefusalStands) {
  http_.generation.refusals.clear();
  auto client = http_.Connect();
  client->Request("POST", kChat, Talk("something else entirely").dump());
  http_.generation.Fail(0, BusyReason::kGroupLost);
  http_.Poll();
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "group_lost");
}

TEST_F(Degraded, AnEarlierAnswerIsGivenAgain) {
  http_.generation.refusals.clear();
  json ask = {{"prompt", "tell me"}, {"max_tokens", 8}, {"temperature", 0}};
  auto client = http_.Connect();
  client->Request("POST", kCompletions, ask.dump());
  http_.generation.Deliver(0, "once ");
  http_.generation.Finish(0, FinishReason::kLength, {'u', 'p'});
  http_.Poll();
  const json fresh = client->TakeReply().json();
  EXPECT_FALSE(fresh.contains("x_shoal"));
  http_.generation.refusals["bytes"] = BusyReason::kNoGroup;
  http_.generation.served.context_tokens = 0;  // No group is left.
  const json again = Ask(ask).json();
  EXPECT_EQ(again["choices"], fresh["choices"]);
  EXPECT_EQ(again["usage"], fresh["usage"]);
  EXPECT_EQ(again["x_shoal"]["rung"], 2);
  ask["stream"] = true;
  EXPECT_EQ(JoinChunks(Ask(ask))[0]["text"], "once up");
  ask["max_tokens"] = 7;
  EXPECT_EQ(Ask(ask).status, 503) << "another request";
  ask["max_tokens"] = 8;
  ask["temperature"] = 1;
  EXPECT_EQ(Ask(ask).status, 503) << "its answer might be another one";
}

TEST_F(Degraded, StopStringsAndLengthHold) {
  json ask = Talk("opening hours");
  ask["max_tokens"] = 6;
  json choice = Ask(ask).json()["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "From n");
  EXPECT_EQ(choice["finish_reason"], "length");
  ask["stop"] = "m n";
  choice = Ask(ask).json()["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "Fro");
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(Degraded, RefusalsThatPileUpLowerTheLevelAndARestRaisesIt) {
  for (int i = 0; i < 3; ++i) Ask(Talk("opening hours"));
  EXPECT_EQ(ladder_->level(), 1);
  http_.generation.refusals.clear();
  auto client = http_.Connect();
  client->Request("POST", kChat, Talk("opening hours").dump());
  EXPECT_EQ(client->TakeReply().json()["x_shoal"]["rung"], 3) << "the model is not asked";
  EXPECT_TRUE(http_.generation.sequences.empty());
  client->Request("POST", kChat, Talk("nothing knows this").dump());
  EXPECT_EQ(http_.generation.sequences.size(), 1U) << "but where nothing below it answers";
  EXPECT_EQ(ladder_->level(), 1) << "that a rung's model is not there is no trouble of others";
  http_.Advance(61'000);
  EXPECT_EQ(ladder_->level(), 0);
  EXPECT_EQ(RecordsOf(core::RecordKind::kRungChanged).size(), 2U);
}

constexpr char kShorter[] = R"(
rungs:
  - {kind: rules, file: rules.yaml, quality: 0.5, cost: 0}
)";

TEST_F(Degraded, AnswersByTheFileAsItIsNow) {
  EXPECT_EQ(Ask(Talk("opening hours")).json()["x_shoal"]["rung"], 3);
  std::ofstream(folder_.path() + "/rules.yaml")
      << "rules:\n  - {name: hours, words: [opening, hours], answer: From ten to four.}\n";
  ladder_->SetRungs(Rungs(kShorter));
  const json body = Ask(Talk("opening hours")).json();
  EXPECT_EQ(body["x_shoal"]["rung"], 1);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "From ten to four.");
  const std::string metrics = http_.Get("/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("shoal_degraded_total{rung=\"3\"} 1\n")) << "it never falls";
  EXPECT_THAT(metrics, HasSubstr("shoal_degraded_total{rung=\"1\"} 1\n"));
}

TEST_F(Degraded, KeepsItsLevelAndItsAnswersWhenTheFileIsReadAgain) {
  http_.generation.refusals.clear();
  const json ask = {{"prompt", "once"}, {"temperature", 0}, {"max_tokens", 4}};
  auto client = http_.Connect();
  client->Request("POST", kCompletions, ask.dump());
  http_.generation.Finish(0, FinishReason::kLength, {'u', 'p', 'o', 'n'});
  http_.Poll();
  http_.generation.refusals["bytes"] = BusyReason::kQueueFull;
  for (int i = 0; i < 3; ++i) Ask(Talk("opening hours"));
  ASSERT_EQ(ladder_->level(), 1);
  ladder_->SetRungs(Rungs(kLadder));
  EXPECT_EQ(ladder_->level(), 1);
  EXPECT_EQ(Ask(ask).json()["x_shoal"]["rung"], 2) << "of the cache";
}

TEST_F(Degraded, AnAnswerThatHasBegunEndsByTheFileThatItBeganWith) {
  OfferOther();
  auto client = http_.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"opening hours","max_tokens":4})");
  ASSERT_EQ(http_.generation.sequences.size(), 1U) << client->received();
  ladder_->SetRungs(Rungs(kShorter));  // Its model is none of the rungs any more.
  http_.generation.Fail(0, BusyReason::kGroupLost);
  http_.Poll();
  const json body = client->TakeReply().json();
  EXPECT_EQ(body["x_shoal"]["rung"], 3) << "rules, as it was numbered then";
  EXPECT_EQ(ladder_->level(), 0) << "of what an earlier ladder did this one learns nothing";
}

TEST_F(Degraded, ABreakerCanAskForIt) {
  http_.generation.refusals.clear();
  http_.generation.degrade_asked = true;
  http_.Advance(1'000);
  EXPECT_EQ(Ask(Talk("opening hours")).json()["x_shoal"]["rung"], 3);
  const auto records = RecordsOf(core::RecordKind::kDegraded);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_FALSE(records[0].reason) << "nothing was refused";
}

TEST_F(Degraded, AConversationMayHangUpAtAnyTime) {
  OfferOther();
  auto client = http_.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"hello","max_tokens":4})");
  ASSERT_EQ(http_.generation.sequences.size(), 1U);
  client->HangUp();
  http_.Poll();
  EXPECT_TRUE(http_.generation.sequences[0].cancelled);
}

TEST(LadderFile, IsRefusedByLine) {
  const auto error = [](const std::string& yaml) -> std::string {
    try {
      ReadLadder(config::YamlMap::ReadText(yaml, "ladder.yaml"), "");
    } catch (const Error& problem) {
      return problem.what();
    }
    return "no error";
  };
  const std::string rules = "rungs:\n  - {kind: rules, file: r, quality: 0.5, cost: 0}\n";
  EXPECT_EQ(error(rules), "no error");
  EXPECT_THAT(error("rungs: []"), HasSubstr("line 1: rungs: expected a list of 1 to 32 rungs"));
  EXPECT_THAT(error("rungs:\n  - {kind: rule}"), HasSubstr("line 2: kind: expected one of model"));
  EXPECT_THAT(error("rungs:\n  - {kind: rules, file: r, cost: 0}"),
              HasSubstr("line 2: quality: expected a number: the model itself has 1"));
  EXPECT_THAT(error("rungs:\n  - {kind: rules, file: r, quality: 2, cost: 0}"),
              HasSubstr("quality: expected a number from 0 to 1, found '2'"));
  EXPECT_THAT(error("rungs:\n  - {kind: rules, quality: 1, cost: 0}"),
              HasSubstr("file: expected a file of rules"));
  EXPECT_THAT(error(rules + "  - {kind: rules, file: s, quality: 0.5, cost: 0}\n"),
              HasSubstr("line 3: name: another rung is called rules"));
  EXPECT_THAT(error(rules + "reasons: [quota_exceeded]"), HasSubstr("found 'quota_exceeded'"));
  EXPECT_THAT(error(rules + "hold: 0s"), HasSubstr("hold: expected a duration"));
  EXPECT_THAT(error(rules + "quality_floor: {vip: 1}"), HasSubstr("vip: no such key here"));
}

}  // namespace
}  // namespace shoal::gateway
