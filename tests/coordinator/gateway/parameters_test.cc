// The parameter contract: what OpenAI's schema and other engines' clients send is honoured, without
// effect, or refused by name, and never dropped in silence.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "coordinator/gateway/api/fields/ignored_fields.h"
#include "coordinator/gateway/api/fields/parameters.h"
#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";

std::string_view PathOf(Endpoint endpoint) {
  return endpoint == Endpoint::kChat ? kChat : kCompletions;
}

// A request with one more field.
std::string With(Endpoint endpoint, std::string_view name, std::string_view value) {
  const std::string_view rest = endpoint == Endpoint::kChat
                                    ? R"("messages":[{"role":"user","content":"hi"}])"
                                    : R"("prompt":"a")";
  return Str("{", rest, ",\"", name, "\":", value, "}");
}

// Sends it and ends the answer, if it was taken.
Reply Ask(GatewayFixture& fixture, std::string_view path, const std::string& body,
          std::string_view headers = "") {
  auto client = fixture.Connect();
  const size_t index = fixture.generation.sequences.size();
  client->Request("POST", path, body, headers);
  // A long body is read on another thread.
  fixture.PollUntil(
      [&] { return fixture.generation.sequences.size() > index || !client->received().empty(); });
  for (size_t i = index; i < fixture.generation.sequences.size(); ++i) {
    fixture.generation.Finish(i, FinishReason::kStop, {'x', kEos});
  }
  return client->TakeReply();
}

std::string Warned(const Reply& reply) {
  return reply.json().contains("warnings") ? reply.json()["warnings"].dump() : "";
}

TEST(ParameterTable, IsWhatRequestsAreCheckedBy) {
  GatewayFixture fixture;
  for (const Endpoint endpoint : {Endpoint::kCompletions, Endpoint::kChat}) {
    for (const Parameter& parameter : Parameters()) {
      if (FindParameter(endpoint, parameter.name) != &parameter) continue;
      const std::string name(parameter.name);
      if (name == "prompt" || name == "messages") continue;  // In every request.
      // No honoured field can be this; an unread one would not be noticed.
      const Reply reply = Ask(fixture, PathOf(endpoint), With(endpoint, name, R"([{"a":[]}])"));
      if (parameter.what == ParameterClass::kNoEffect) {
        EXPECT_EQ(reply.status, 200) << name;
        EXPECT_EQ(Warned(reply), "") << name;
        continue;
      }
      EXPECT_EQ(reply.status, 400) << name;
      const std::string param = reply.json()["error"]["param"];
      EXPECT_TRUE(param.starts_with(name)) << name << " " << param;
      if (parameter.what != ParameterClass::kUnsupported) continue;
      EXPECT_EQ(reply.json()["error"]["code"], "unsupported_parameter") << name;
      for (const json& value : json::parse(parameter.neutral)) {
        const Reply neutral = Ask(fixture, PathOf(endpoint), With(endpoint, name, value.dump()));
        EXPECT_EQ(neutral.status, 200) << name << " " << value;
        EXPECT_EQ(Warned(neutral), "") << name;
      }
    }
  }
}

TEST(ParameterTable, IsPublished) {
  GatewayFixture fixture;
  const json list = fixture.Get("/v1/parameters").json();
  EXPECT_EQ(list["object"], "list");
  std::map<std::string, json> rows;
  for (const json& row : list["data"]) {
    if (row["endpoints"] != json{kChat}) rows[row["name"]] = row;
  }
  EXPECT_EQ(rows.at("temperature")["class"], "honoured");
  EXPECT_EQ(rows.at("user")["class"], "no_effect");
  EXPECT_EQ(rows.at("grammar")["class"], "unsupported");
  EXPECT_EQ(rows.at("grammar")["accepted_values"], json::array({""}));
  EXPECT_EQ(rows.at("prompt")["endpoints"], json::array({kCompletions}));
}

TEST(Parameters, NullIsTakenForEveryOptionalOne) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  for (const Endpoint endpoint : {Endpoint::kCompletions, Endpoint::kChat}) {
    json body;
    for (const Parameter& parameter : Parameters()) {
      if (FindParameter(endpoint, parameter.name) == &parameter)
        body[std::string(parameter.name)] = nullptr;
    }
    if (endpoint == Endpoint::kChat) body["messages"] = {{{"role", "user"}, {"content", "x"}}};
    const Reply reply = Ask(fixture, PathOf(endpoint), body.dump());
    EXPECT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(Warned(reply), "");
  }
}

TEST(Parameters, ConstraintsOfOtherEnginesAreNeverDropped) {
  GatewayFixture fixture;
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"ebnf", R"("root ::= \"a\"")"},
           {"grammar", R"("root ::= \"a\"")"},
           {"guided_grammar", R"("root ::= \"a\"")"},
           {"structural_tag", "{}"},
           {"bad_words", R"(["a"])"},
           {"reasoning_effort", R"("high")"},
           {"chat_template_kwargs", R"({"enable_thinking":true})"}}) {
    const Reply reply = fixture.Post(kCompletions, With(Endpoint::kCompletions, name, value));
    EXPECT_EQ(reply.status, 400) << name;
    EXPECT_EQ(reply.json()["error"]["param"], name);
  }
  auto regex = fixture.Connect();
  regex->Request("POST", kCompletions, R"({"prompt":"a","regex":"b+"})");
  auto schema = fixture.Connect();
  schema->Request("POST", kCompletions, R"({"prompt":"a","json_schema":{"type":"null"}})");
  const auto& sequences = fixture.generation.sequences;
  ASSERT_EQ(sequences.size(), 2U);
  EXPECT_EQ(sequences[0].params.grammar, (GrammarSource{GrammarKind::kRegex, "b+"}));
  EXPECT_EQ(sequences[1].params.grammar,
            (GrammarSource{GrammarKind::kJsonSchema, R"({"type":"null"})"}));
}

TEST(Parameters, ATemperatureTooNearToZeroIsZeroAndNoTopPLeavesTheBestToken) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a","temperature":1e-8})");
  auto least = fixture.Connect();
  least->Request("POST", kCompletions, R"({"prompt":"a","temperature":1e-5,"top_p":0})");
  const auto& sequences = fixture.generation.sequences;
  EXPECT_EQ(sequences.at(0).params.sampling.temperature, 0);
  EXPECT_EQ(sequences.at(1).params.sampling.temperature, 1e-5);
  EXPECT_EQ(sequences.at(1).params.sampling.top_p, std::numeric_limits<double>::min());
  for (const auto& sequence : sequences) CheckParams(sequence.params);
}

TEST(Parameters, IntegersMayHaveAPointZero) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions,
                  R"({"prompt":[1.0,2e1],"max_tokens":8.0,"seed":-4.0,"top_k":40.0,"n":2.0,)"
                  R"("logprobs":1.0,"stop_token_ids":[65.0],"min_tokens":3.0,"priority":1e2})");
  ASSERT_EQ(fixture.generation.sequences.size(), 2U);
  const auto& sequence = fixture.generation.sequences[0];
  EXPECT_THAT(sequence.prompt, ElementsAre(1, 20));
  EXPECT_EQ(sequence.params.tokens_max, 8);
  EXPECT_EQ(static_cast<int64_t>(sequence.params.sampling.seed), -4);
  EXPECT_EQ(sequence.params.sampling.top_k, 40);
  EXPECT_EQ(sequence.params.top_logprobs, 1);
  EXPECT_THAT(sequence.params.stop_ids, ElementsAre(65, kEos));
  EXPECT_EQ(sequence.params.sampling.min_tokens, 3);
  EXPECT_EQ(sequence.params.priority, 100);
}

TEST(Parameters, AHundredAndTwentyEightAnswersAreTaken) {
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kCompletions, R"({"prompt":"a","n":128,"best_of":128})");
  EXPECT_EQ(reply.json()["choices"].size(), 128U);
  EXPECT_EQ(fixture.generation.sequences.at(127).params.sampling.choice, 127U);
}

TEST(Parameters, AnAbsentOrEmptyPromptIsTheBosTokenAlone) {
  for (const char* body : {R"({})", R"({"prompt":null})", R"({"prompt":""})", R"({"prompt":[]})",
                           R"({"prompt":[""]})"}) {
    GatewayFixture fixture({}, /*adds_bos=*/true);
    EXPECT_EQ(Ask(fixture, kCompletions, body).status, 200) << body;
    EXPECT_THAT(fixture.generation.sequences.at(0).prompt, ElementsAre(kBos)) << body;
  }
  GatewayFixture fixture;
  const Reply reply = fixture.Post(kCompletions, "{}");
  EXPECT_EQ(reply.status, 400) << "its tokenizer knows no BOS in text";
  EXPECT_THAT(reply.body, HasSubstr("the model has no BOS token"));
}

TEST(Parameters, AddSpecialTokensIsWhetherAPromptOfTextGetsABos) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  EXPECT_EQ(Ask(fixture, kCompletions, R"({"prompt":"a","add_special_tokens":false})").status, 200);
  EXPECT_THAT(fixture.generation.sequences.at(0).prompt, ElementsAre('a'));
  EXPECT_EQ(fixture.Post(kCompletions, R"({"add_special_tokens":false})").status, 400);
}

TEST(Parameters, WhatOpenAisChatSchemaAllowsIsTaken) {
  const json request = json::parse(R"({
    "messages":[
      {"role":"developer","content":[{"type":"text","text":"d","cache_control":{}}],"name":"n"},
      {"role":"user","content":"u"},
      {"role":"assistant"},
      {"role":"assistant","content":null,"refusal":"no","audio":null,"function_call":null,
       "tool_calls":[],"annotations":[]},
      {"role":"assistant","content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"b"}]},
      {"role":"function","name":"f","content":null},
      {"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"t"}]}],
    "stop":[],"modalities":["text"],"store":false,"parallel_tool_calls":true,"tools":[],
    "response_format":{"type":"text"},"tool_choice":"none","logit_bias":{},"user":"u",
    "metadata":{},"service_tier":"auto","logprobs":false,"top_logprobs":0,"n":1,
    "reasoning_effort":"none","chat_template_kwargs":{},"documents":[],"prediction":null,
    "max_completion_tokens":5,"stream":true,"stream_options":{"include_obfuscation":false}})");
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kChat, request.dump());
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_FALSE(reply.headers.contains("x-shoal-ignored")) << reply.headers.at("x-shoal-ignored");
  const auto& prompt = fixture.generation.sequences.at(0).prompt;
  EXPECT_EQ(std::string(prompt.begin(), prompt.end()),
            "developern:duser:uassistant:assistant:noassistant:abfunctionf:tool:t>");
}

TEST(UnknownFields, AreNamedOnceInHeaderAndAnswer) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  const std::string body =
      R"({"messages":[{"role":"user","content":"x","odd":1},{"role":"user","content":"y",)"
      R"("odd":2}],"temprature":0.5,"a b":1})";
  const Reply reply = Ask(fixture, kChat, body);
  EXPECT_EQ(reply.headers.at("x-shoal-ignored"), "messages.odd, temprature");
  EXPECT_THAT(
      reply.json()["warnings"],
      ElementsAre(R"(ignored "messages.odd": there is no such field)",
                  R"(ignored "temprature": there is no such field, did you mean temperature?)",
                  R"(ignored "a b": there is no such field)"));
  json streamed = json::parse(body);
  streamed["stream"] = true;
  for (const std::string_view path : {kChat, kCompletions}) {
    std::vector<size_t> with_warnings;
    const auto events = Ask(fixture, path, streamed.dump()).events();
    for (size_t i = 0; i + 1 < events.size(); ++i) {
      if (json::parse(events[i]).contains("warnings")) with_warnings.push_back(i);
    }
    EXPECT_THAT(with_warnings, ElementsAre(0)) << path;
  }
  EXPECT_THAT(fixture.Get("/metrics").body, HasSubstr("\nshoal_ignored_fields_total 9\n"));
}

TEST(Parameters, WhatStandsInsideAConstraintIsHonouredOrRefused) {
  GatewayFixture fixture;
  for (const auto& [format, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({"type":"text","schema":{"const":7}})", "response_format.schema"},
           {R"({"type":"json_object","json_schema":{"schema":{}}})", "response_format.json_schema"},
           {R"({"type":"json_schema","json_schema":{"schema":{}},"regex":"a"})",
            "response_format.regex"},
           {R"({"type":"json_schema","json_schema":{"schema":{},"lenient":true}})",
            "response_format.json_schema.lenient"}}) {
    const Reply reply =
        Ask(fixture, kCompletions, R"({"prompt":"a","response_format":)" + format + "}");
    EXPECT_EQ(reply.status, 400) << format;
    EXPECT_EQ(reply.json()["error"]["param"], param);
    EXPECT_EQ(reply.json()["error"]["code"], "unsupported_parameter");
  }
  EXPECT_EQ(Ask(fixture, kCompletions,
                R"({"prompt":"a","response_format":{"type":"text","json_schema":null}})")
                .status,
            200);
}

TEST(Parameters, EmptyPromptsOfAListAreTheBosTokenAlone) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  const Reply reply = Ask(fixture, kCompletions, R"({"prompt":[[],"",[98]]})");
  EXPECT_EQ(reply.status, 200) << reply.body;
  ASSERT_EQ(fixture.generation.sequences.size(), 3U);
  EXPECT_EQ(fixture.generation.sequences[0].prompt, fixture.generation.sequences[1].prompt);
}

TEST(Parameters, IntegersThatAreNotKnownToTheLastDigitAreRefusedAsThat) {
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kCompletions, R"({"prompt":"a","seed":1e18})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.json()["error"]["message"].get<std::string>(), HasSubstr("beyond 2^53"));
}

TEST(UnknownFields, OfTheOtherEndpointAreNotSuggested) {
  GatewayFixture fixture;
  EXPECT_EQ(Warned(Ask(fixture, kCompletions, R"({"prompt":"a","messages":[]})")),
            R"(["ignored \"messages\": there is no such field at this endpoint"])");
}

TEST(UnknownFields, AreBounded) {
  std::string body = R"({"prompt":"a")";
  for (int i = 0; i < 3000; ++i) body += Str(",\"field", i, "\":1");
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kCompletions, body + ",\"" + std::string(9000, 'x') + "\":1}");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.json()["warnings"].size(), 33U);
  EXPECT_LE(reply.headers.at("x-shoal-ignored").size(), 600U);
}

TEST(UnknownFields, AreRefusedWhereThatIsAskedFor) {
  const std::string body = R"({"prompt":"a","user":"u","temprature":0.5})";
  for (const bool always : {false, true}) {
    HttpGatewayOptions options;
    options.strict_params = always;
    GatewayFixture fixture(std::move(options));
    EXPECT_EQ(Ask(fixture, kCompletions, body, "X-Shoal-Strict: 0\r\n").status, always ? 400 : 200);
    const Reply reply = Ask(fixture, kCompletions, body, always ? "" : "X-Shoal-Strict: 1\r\n");
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(reply.json()["error"]["code"], "unknown_parameter");
    EXPECT_EQ(reply.json()["error"]["param"], "temprature");
    EXPECT_THAT(reply.body, HasSubstr("did you mean temperature?"));
  }
}

TEST(UnknownFields, AreLoggedOnceAMinute) {
  IgnoredLog log;
  constexpr TimeNs kPeriod = IgnoredLog::kPeriodNs;
  EXPECT_EQ(log.Note({}, 0), "");
  EXPECT_THAT(log.Note({"b", "a"}, 0), HasSubstr("of 1 requests: a, b"));
  EXPECT_EQ(log.Note({"c"}, kPeriod - 1), "");
  EXPECT_EQ(log.Note({}, kPeriod + 1), "");
  EXPECT_THAT(log.Note({"d"}, kPeriod + 2), HasSubstr("of 2 requests: c, d"));
  EXPECT_EQ(log.total(), 4U);
}

TEST(Answers, ShowStopsAndSpecialTokensWhereThatIsAskedFor) {
  GatewayFixture fixture;
  const auto text = [&](const std::string& fields, const std::vector<std::string_view>& pieces) {
    auto client = fixture.Connect();
    const size_t index = fixture.generation.sequences.size();
    client->Request("POST", kCompletions, R"({"prompt":"a",)" + fields + "}");
    for (const std::string_view piece : pieces) fixture.generation.Deliver(index, piece);
    fixture.generation.Finish(index, FinishReason::kStop, {kBos, 'e', kEos});
    return client->TakeReply().json()["choices"][0]["text"].get<std::string>();
  };
  EXPECT_EQ(text(R"("stop":["BC","B"])", {"aBCd"}), "a");
  EXPECT_EQ(text(R"("stop":["BC","B"],"include_stop_str_in_output":true)", {"a", "B", "C"}), "aB");
  EXPECT_EQ(text(R"("stop":["CD","BC"],"include_stop_str_in_output":true)", {"aBCDe"}), "aBC");
  EXPECT_EQ(text(R"("skip_special_tokens":true)", {"a"}), "ae");
  EXPECT_EQ(text(R"("skip_special_tokens":false)", {"a"}), "a<bos>e");
  EXPECT_EQ(text(R"("skip_special_tokens":false,"include_stop_str_in_output":true)", {"a"}),
            "a<bos>e<eos>");
}

TEST(Answers, TextOffsetsCountFromThePromptsStart) {
  GatewayFixture fixture;
  const auto offsets = [&](const std::string& prompt) {
    const size_t index = fixture.generation.sequences.size();
    auto client = fixture.Connect();
    client->Request("POST", kCompletions, Str(R"({"logprobs":0,"prompt":)", prompt, "}"));
    fixture.generation.Finish(index, FinishReason::kLength, {'x', 'y'});
    return client->TakeReply().json()["choices"][0]["logprobs"]["text_offset"];
  };
  EXPECT_EQ(offsets(R"("h\u00e9y")"), json({3, 4}));
  EXPECT_EQ(offsets("[104,105]"), json({2, 3}));
}

}  // namespace
}  // namespace shoal::gateway
