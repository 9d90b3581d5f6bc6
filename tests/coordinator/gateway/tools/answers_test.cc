// Answers whose calls and thoughts are told apart from what they say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/coordinator/gateway/tools/support.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using text::ToolFormat;

constexpr std::string_view kChat = "/v1/chat/completions";

const std::string kCall =
    "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": \"Rome\"}}\n"
    "</tool_call>";

struct Streamed {
  std::string content;
  std::string reasoning;
  json calls = json::array();  // As a client joins them.
  std::vector<std::string> argument_pieces;
  std::string finish;
};

Streamed Join(const Reply& reply) {
  Streamed all;
  for (const std::string& event : reply.events()) {
    if (event == "[DONE]") continue;
    const json chunk = json::parse(event);
    for (const json& choice : chunk["choices"]) {
      const json& delta = choice["delta"];
      if (choice["finish_reason"].is_string()) all.finish = choice["finish_reason"];
      all.content += delta.value("content", "");
      all.reasoning += delta.value("reasoning_content", "");
      for (const json& call : delta.value("tool_calls", json::array())) {
        const auto index = call["index"].get<size_t>();
        if (index == all.calls.size()) {
          EXPECT_TRUE(call.contains("id") && call["function"].contains("name")) << event;
          all.calls.push_back(call);
          all.calls.back().erase("index");
        } else {
          EXPECT_EQ(index + 1, all.calls.size()) << event;
          EXPECT_FALSE(call.contains("id") || call["function"].contains("name")) << event;
          std::string& whole = all.calls[index]["function"]["arguments"].get_ref<std::string&>();
          whole += call["function"]["arguments"].get<std::string>();
        }
        all.argument_pieces.push_back(call["function"]["arguments"]);
      }
    }
  }
  return all;
}

TEST(ToolAnswers, AreCallsAndNothingElse) {
  const json fields = {{"tools", {Tool("look")}}};
  ToolsFixture fixture;
  const json choice = fixture.Ask(fields, kCall).json()["choices"][0];
  const json& message = choice["message"];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(message["content"].is_null()) << message;
  ASSERT_EQ(message["tool_calls"].size(), 1U);
  const json& call = message["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_EQ(call["function"], json({{"name", "look"}, {"arguments", "{\"city\": \"Rome\"}"}}));
  EXPECT_THAT(call["id"].get<std::string>(), testing::MatchesRegex("call_[0-9a-f]+"));
  EXPECT_EQ(call.size(), 3U) << call;
}

TEST(ToolAnswers, StreamTheArgumentsAsTheyCome) {
  Streamed streamed;
  {
    ToolsFixture fixture;
    streamed =
        Join(fixture.Ask({{"tools", {Tool("look")}}, {"stream", true}}, "Let me see. " + kCall));
  }
  EXPECT_EQ(streamed.content, "Let me see.");
  EXPECT_EQ(streamed.finish, "tool_calls");
  EXPECT_GT(streamed.argument_pieces.size(), 10U);
  ToolsFixture fixture;
  const json choice =
      fixture.Ask({{"tools", {Tool("look")}}}, "Let me see. " + kCall).json()["choices"][0];
  EXPECT_EQ(choice["message"]["tool_calls"], streamed.calls) << "also the ids";
  EXPECT_EQ(choice["message"]["content"], "Let me see.");
}

TEST(ToolAnswers, ReadEachFormat) {
  const std::pair<ToolFormat, std::string> formats[] = {
      {ToolFormat::kLlama3, R"({"name": "look", "parameters": {"city": "Rome"}})"},
      {ToolFormat::kMistral, R"([TOOL_CALLS][{"name": "look", "arguments": {"city": "Rome"}}])"},
      {ToolFormat::kDeepSeek,
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n"
       "{\"city\": \"Rome\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {ToolFormat::kGemma,
       "```tool_call\n{\"name\": \"look\", \"parameters\": {\"city\": "
       "\"Rome\"}}\n```"},
  };
  for (const auto& [format, answer] : formats) {
    ToolsFixture fixture(format);
    const json choice = fixture.Ask({{"tools", {Tool("look")}}}, answer).json()["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "tool_calls") << answer;
    ASSERT_EQ(choice["message"].value("tool_calls", json::array()).size(), 1U) << answer;
    EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"city\": \"Rome\"}");
  }
}

TEST(ToolAnswers, HearSpecialTokensBesideStopStrings) {
  for (const json& stop : {json(nullptr), json("CALLS]x"), json({"Rome!", "zzz"})}) {
    for (const int min_tokens : {0, 4}) {
      ToolsFixture fixture(ToolFormat::kMistral);
      json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}},
                   {"tools", {Tool("look")}},
                   {"stop", stop},
                   {"max_tokens", 100},
                   {"min_tokens", min_tokens}};
      auto client = fixture.Connect();
      client->Request("POST", kChat, body.dump());
      fixture.generation.Deliver(0, "z");
      fixture.generation.Deliver(0, std::vector<int32_t>{kToolCalls});
      fixture.generation.Deliver(0, R"([{"name": "look", "arguments": {"city": "Rome"}}])");
      fixture.generation.Finish(0, FinishReason::kStop, {kEos});
      const json choice = client->TakeReply().json()["choices"][0];
      EXPECT_EQ(choice["message"]["content"], "z") << stop;
      ASSERT_TRUE(choice["message"].contains("tool_calls")) << stop;
      const json& call = choice["message"]["tool_calls"][0];
      EXPECT_EQ(call["function"]["arguments"], R"({"city": "Rome"})");
      EXPECT_EQ(call["id"].get<std::string>().size(), 9U) << "Mistral's templates take no other";
    }
  }
}

TEST(ToolAnswers, AreTextWhereNoToolIsOffered) {
  for (const json& fields : {json::object(), json({{"tools", json::array()}}),
                             json({{"tools", {Tool("look")}}, {"tool_choice", "none"}})}) {
    ToolsFixture fixture;
    const json choice = fixture.Ask(fields, kCall).json()["choices"][0];
    EXPECT_EQ(choice["message"],
              json({{"role", "assistant"}, {"content", kCall}, {"refusal", nullptr}}));
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_FALSE(fixture.told.contains("tools"));
  }
}

TEST(ToolAnswers, HaveOneCallWhereMoreAreNotWanted) {
  const std::string two = kCall + "\n" + kCall;
  for (const bool parallel : {true, false}) {
    ToolsFixture fixture;
    const json fields = {{"tools", {Tool("look")}}, {"parallel_tool_calls", parallel}};
    const json calls = fixture.Ask(fields, two).json()["choices"][0]["message"]["tool_calls"];
    EXPECT_EQ(calls.size(), parallel ? 2U : 1U);
    std::set<std::string> ids;
    for (const json& call : calls) ids.insert(call["id"]);
    EXPECT_EQ(ids.size(), calls.size());
  }
}

TEST(ToolAnswers, TellWhereTheyWereCutOff) {
  ToolsFixture fixture;
  const json choice = fixture
                          .Ask({{"tools", {Tool("look")}}}, kCall.substr(0, kCall.size() - 20),
                               FinishReason::kLength)
                          .json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  const std::string arguments = choice["message"]["tool_calls"][0]["function"]["arguments"];
  EXPECT_TRUE(std::string("{\"city\": \"Rome\"}").starts_with(arguments));
}

TEST(ToolAnswers, HaveTheOlderFormForOlderRequests) {
  const json fields = {{"functions", {Tool("look")["function"]}}};
  ToolsFixture fixture;
  const json choice = fixture.Ask(fields, kCall).json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "function_call");
  EXPECT_EQ(choice["message"]["function_call"],
            json({{"name", "look"}, {"arguments", "{\"city\": \"Rome\"}"}}));
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
}

TEST(ToolAnswers, HaveLogprobsOfAllTokens) {
  ToolsFixture fixture;
  const json fields = {{"tools", {Tool("look")}}, {"logprobs", true}};
  const json choice = fixture.Ask(fields, kCall).json()["choices"][0];
  EXPECT_EQ(choice["logprobs"]["content"].size(), kCall.size());
}

// The prompt is the same, but what is made of the answer is not.
TEST(ToolAnswers, AreNotGoneOnWithByOtherRequests) {
  ToolsFixture fixture(ToolFormat::kHermes, "<think>", "</think>");
  json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}},
               {"tools", {Tool("look")}},
               {"stream", true},
               {"seed", 1}};
  auto client = fixture.Connect();
  client->Request("POST", kChat, body.dump(), "X-Shoal-Resumable: 1\r\n");
  fixture.generation.Deliver(0, "a");
  const std::string cursor = client->TakeReply().all_events().at(0).id;
  const json others[] = {{{"tools", nullptr}},
                         {{"parallel_tool_calls", false}},
                         {{"separate_reasoning", false}},
                         {{"include_reasoning", false}},
                         {{"tools", nullptr}, {"functions", {Tool("look")["function"]}}}};
  for (const json& other : others) {
    json changed = body;
    changed.update(other);
    const Reply reply = fixture.Post(kChat, changed.dump(), "Last-Event-ID: " + cursor + "\r\n");
    EXPECT_EQ(reply.status, 400) << other;
    EXPECT_EQ(reply.json()["error"]["code"], "cursor_mismatch") << other;
  }
  EXPECT_EQ(fixture.generation.sequences.size(), 1U);
}

TEST(ReasoningAnswers, TellThoughtsApart) {
  const std::string answer = "<think>\nWell, now.\n</think>\n\nRome.";
  for (const bool stream : {false, true}) {
    ToolsFixture fixture(ToolFormat::kHermes, "<think>", "</think>");
    const Reply reply = fixture.Ask({{"stream", stream}}, answer);
    if (stream) {
      const Streamed streamed = Join(reply);
      EXPECT_EQ(streamed.reasoning, "Well, now.");
      EXPECT_EQ(streamed.content, "Rome.");
      EXPECT_EQ(streamed.finish, "stop");
    } else {
      EXPECT_EQ(reply.json()["choices"][0]["message"], json({{"role", "assistant"},
                                                             {"content", "Rome."},
                                                             {"reasoning_content", "Well, now."},
                                                             {"refusal", nullptr}}));
    }
  }
}

TEST(ReasoningAnswers, BeginWithThoughtsWhereThePromptSaysSo) {
  ToolsFixture fixture(ToolFormat::kHermes, "<think>", "</think>");
  fixture.prompt = "user: hi, assistant: <think>\n";
  const json message = fixture.Ask({}, "Well.</think>Rome.").json()["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "Well.");
  EXPECT_EQ(message["content"], "Rome.");
}

TEST(ReasoningAnswers, AreWholeOrWithoutThoughtsAsAskedFor) {
  const std::string answer = "<think>Well.</think>Rome.";
  const std::pair<json, std::string> cases[] = {
      {{{"separate_reasoning", false}}, answer},
      {{{"include_reasoning", false}}, "Rome."},
      {{{"guided_regex", "[^z]*"}}, answer},
  };
  for (const auto& [fields, content] : cases) {
    ToolsFixture fixture(ToolFormat::kHermes, "<think>", "</think>");
    const json message = fixture.Ask(fields, answer).json()["choices"][0]["message"];
    EXPECT_EQ(message["content"], content) << fields;
    EXPECT_FALSE(message.contains("reasoning_content")) << fields;
  }
}

TEST(ReasoningAnswers, MayCallAfterThinking) {
  ToolsFixture fixture(ToolFormat::kHermes, "<think>", "</think>");
  const json message = fixture.Ask({{"tools", {Tool("look")}}}, "<think>Well.</think>\n" + kCall)
                           .json()["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "Well.");
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(message["tool_calls"].size(), 1U);
}

}  // namespace
}  // namespace shoal::gateway
