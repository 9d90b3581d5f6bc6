// Bad requests: each with its status, the parameter it is about, and a message that helps.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";

struct BadRequestCase {
  std::string_view path;
  std::string_view body;
  std::string_view param;
};

constexpr BadRequestCase kBadRequests[] = {
    {kCompletions, R"({})", "prompt"},
    {kCompletions, R"({"prompt":7})", "prompt"},
    {kCompletions, R"({"prompt":[]})", "prompt"},
    {kCompletions, R"({"prompt":""})", "prompt"},
    {kCompletions, R"({"prompt":[1,"a"]})", "prompt[1]"},
    {kCompletions, R"({"prompt":[1,2.5]})", "prompt[1]"},
    {kCompletions, R"({"prompt":[1,-1]})", "prompt[1]"},
    {kCompletions, R"({"prompt":[1,258]})", "prompt[1]"},
    {kCompletions, R"({"prompt":["a",[1,999999]]})", "prompt[1][1]"},
    {kCompletions, R"({"prompt":["a",{}]})", "prompt[1]"},
    {kCompletions, R"({"prompt":"a","max_tokens":0})", "max_tokens"},
    {kCompletions, R"({"prompt":"a","max_tokens":-1})", "max_tokens"},
    {kCompletions, R"({"prompt":"a","max_tokens":1.5})", "max_tokens"},
    {kCompletions, R"({"prompt":"a","max_tokens":"9"})", "max_tokens"},
    {kCompletions, R"({"prompt":"a","temperature":-0.1})", "temperature"},
    {kCompletions, R"({"prompt":"a","temperature":100.5})", "temperature"},
    {kCompletions, R"({"prompt":"a","temperature":"hot"})", "temperature"},
    {kCompletions, R"({"prompt":"a","top_p":-0.1})", "top_p"},
    {kCompletions, R"({"prompt":"a","top_p":1.1})", "top_p"},
    {kCompletions, R"({"prompt":"a","top_k":-2})", "top_k"},
    {kCompletions, R"({"prompt":"a","min_p":2})", "min_p"},
    {kCompletions, R"({"prompt":"a","seed":9223372036854775808})", "seed"},
    {kCompletions, R"({"prompt":"a","seed":1.5})", "seed"},
    {kCompletions, R"({"prompt":"a","seed":9007199254740994.0})", "seed"},
    {kCompletions, R"({"prompt":"a","seed":1e300})", "seed"},
    {kCompletions, R"({"prompt":"a","max_tokens":8.5})", "max_tokens"},
    {kCompletions, R"({"prompt":"a","priority":1001})", "priority"},
    {kCompletions, R"({"prompt":"a","cache_salt":""})", "cache_salt"},
    {kCompletions, R"({"prompt":"a","logprobs":21})", "logprobs"},
    {kCompletions, R"({"prompt":"a","logprobs":true})", "logprobs"},
    {kCompletions, R"({"prompt":"a","stop":""})", "stop"},
    {kCompletions, R"({"prompt":"a","stop":["x",1]})", "stop[1]"},
    {kCompletions, R"({"prompt":"a","stream":"yes"})", "stream"},
    {kCompletions, R"({"prompt":"a","stream_options":{}})", "stream_options"},
    {kCompletions, R"({"prompt":"a","echo":1})", "echo"},
    {kCompletions, R"({"prompt":"a","n":0})", "n"},
    {kCompletions, R"({"prompt":"a","n":129})", "n"},
    {kCompletions, R"({"prompt":[[1],[1],[1],[1],[1],[1],[1],[1],[1]],"n":128})", "n"},
    {kCompletions, R"({"prompt":"a","best_of":3})", "best_of"},
    {kCompletions, R"({"prompt":"a","suffix":"b"})", "suffix"},
    {kCompletions, R"({"prompt":"a","typical_p":0})", "typical_p"},
    {kCompletions, R"({"prompt":"a","typical_p":1.5})", "typical_p"},
    {kCompletions, R"({"prompt":"a","presence_penalty":2.5})", "presence_penalty"},
    {kCompletions, R"({"prompt":"a","frequency_penalty":-2.1})", "frequency_penalty"},
    {kCompletions, R"({"prompt":"a","frequency_penalty":"1"})", "frequency_penalty"},
    {kCompletions, R"({"prompt":"a","repetition_penalty":0})", "repetition_penalty"},
    {kCompletions, R"({"prompt":"a","repetition_penalty":-1})", "repetition_penalty"},
    {kCompletions, R"({"prompt":"a","repeat_penalty":1.1})", "repeat_penalty"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"5":101}})", "logit_bias.5"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"5":"1"}})", "logit_bias.5"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"05":1}})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"-5":1}})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"the":1}})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"4294967301":1}})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","logit_bias":{"258":1}})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","logit_bias":[[5,1]]})", "logit_bias"},
    {kCompletions, R"({"prompt":"a","min_tokens":-1})", "min_tokens"},
    {kCompletions, R"({"prompt":"a","min_tokens":17})", "min_tokens"},
    {kCompletions, R"({"prompt":"a","min_tokens":6,"max_tokens":5})", "min_tokens"},
    {kCompletions, R"({"prompt":"a","model":5})", "model"},
    {kCompletions, R"([1])", ""},
    {kChat, R"({"messages":[]})", "messages"},
    {kChat, R"({"messages":"hi"})", "messages"},
    {kChat, R"({"messages":["hi"]})", "messages[0]"},
    {kChat, R"({"messages":[{"content":"x"}]})", "messages[0].role"},
    {kChat, R"({"messages":[{"role":"robot","content":"x"}]})", "messages[0].role"},
    {kChat, R"({"messages":[{"role":"user"}]})", "messages[0].content"},
    {kChat, R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
    {kChat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
     "messages[0].content[0].type"},
    {kChat, R"({"messages":[{"role":"user","content":null}]})", "messages[0].content"},
    {kChat, R"({"messages":[{"role":"user","content":[{"type":"refusal","refusal":"no"}]}]})",
     "messages[0].content[0].type"},
    {kChat, R"({"messages":[{"role":"assistant","content":[{"type":"refusal"}]}]})",
     "messages[0].content[0].refusal"},
    {kChat, R"({"messages":[{"role":"assistant","tool_calls":[{}]}]})",
     "messages[0].tool_calls[0].function"},
    {kChat, R"({"messages":[{"role":"user","content":"x","prefix":true}]})", "messages[0].prefix"},
    {kChat, R"({"messages":[{"role":"user","content":"x"}],"top_logprobs":2})", "top_logprobs"},
    {kChat, R"({"messages":[{"role":"user","content":"x"}],"tools":[{}]})", "tools[0].type"},
    {kChat, R"({"messages":[{"role":"user","content":"x"}],"max_tokens":0})", "max_tokens"},
    {kChat, R"({"messages":[{"role":"user","content":"x"}],"logit_bias":{"5":-100.5}})",
     "logit_bias.5"},
    {kChat, R"({"messages":[{"role":"user","content":"x"}],"presence_penalty":3})",
     "presence_penalty"},
    {kCompletions, R"({"prompt":"a","response_format":"json"})", "response_format"},
    {kCompletions, R"({"prompt":"a","response_format":{"type":"xml"}})", "response_format.type"},
    {kCompletions, R"({"prompt":"a","response_format":{"type":"json_schema"}})",
     "response_format.json_schema"},
    {kCompletions, R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{}}})",
     "response_format.json_schema.schema"},
    {kCompletions, R"({"prompt":"a","structured_outputs":{"grammar":"x"}})",
     "structured_outputs.grammar"},
    {kCompletions, R"({"prompt":"a","structured_outputs":{"choice":"x"}})",
     "structured_outputs.choice"},
    {kCompletions, R"({"prompt":"a","guided_regex":"(a"})", "guided_regex"},
    {kCompletions, R"({"prompt":"a","guided_choice":[]})", "guided_choice"},
    {kCompletions, R"({"prompt":"a","guided_json":"{"})", "guided_json"},
    {kCompletions, R"({"prompt":"a","guided_grammar":"x"})", "guided_grammar"},
    {kCompletions, R"({"prompt":"a","guided_regex":"a","guided_choice":["a"]})", "guided_choice"},
    {kCompletions, R"({"prompt":"a","guided_regex":"a","ignore_eos":true})", "ignore_eos"},
};

TEST(BadRequest, NamesTheParameter) {
  GatewayFixture fixture;
  for (const BadRequestCase& bad : kBadRequests) {
    const Reply reply = fixture.Post(bad.path, bad.body);
    EXPECT_EQ(reply.status, 400) << bad.body;
    const json error = reply.json()["error"];
    EXPECT_EQ(error["param"], bad.param.empty() ? json() : json(bad.param)) << bad.body;
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_THAT(error["message"].get<std::string>(),
                HasSubstr(std::string(bad.param.substr(0, bad.param.find('[')))));
    EXPECT_EQ(error["request_id"], reply.headers.at("x-request-id"));
    for (const char* key : {"code", "message"}) EXPECT_TRUE(error[key].is_string()) << bad.body;
  }
  EXPECT_TRUE(fixture.generation.sequences.empty());
}

TEST(BadRequest, NamesAnUnsupportedKeywordOfASchemaAndItsPlace) {
  GatewayFixture fixture;
  const Reply reply = fixture.Post(
      kChat, R"({"messages":[{"role":"user","content":"x"}],"response_format":{"type":)"
             R"("json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object",)"
             R"("properties":{"age":{"type":"integer","not":{"const":5}}}}}}})");
  EXPECT_EQ(reply.status, 400);
  const json error = reply.json()["error"];
  EXPECT_EQ(error["param"], "response_format.json_schema.schema");
  EXPECT_EQ(error["code"], "invalid_grammar");
  EXPECT_THAT(error["message"].get<std::string>(),
              testing::AllOf(HasSubstr("#/properties/age/not: the keyword not is not supported; "
                                       "supported are type, enum"),
                             HasSubstr("$ref")));
}

TEST(BadRequest, GivesTheRangeAndTheValue) {
  GatewayFixture fixture;
  const auto message = [&](const std::string& field, const std::string& value) {
    const Reply reply =
        fixture.Post(kCompletions, R"({"prompt":"a",")" + field + R"(":)" + value + "}");
    return reply.json()["error"]["message"].get<std::string>();
  };
  EXPECT_EQ(message("presence_penalty", "2.5"), "presence_penalty must be from -2 to 2, not 2.5");
  EXPECT_EQ(message("repetition_penalty", "0"),
            "repetition_penalty must be above 0 and at most 100000, not 0");
  EXPECT_EQ(message("typical_p", "0"), "typical_p must be above 0 and at most 1, not 0");
  EXPECT_EQ(message("min_tokens", "17"), "min_tokens must be from 0 to 16, not 17");
  EXPECT_EQ(message("logit_bias", R"({"7":-200})"),
            "logit_bias.7 must be from -100 to 100, not -200");
  EXPECT_EQ(message("logit_bias", R"({"258":1})"),
            "logit_bias names token 258: expected an id from 0 to 257");
  std::string many = "{\"0\":1";
  for (int64_t token = 1; token <= kLogitBiasesMax; ++token) many += Str(",\"", token, "\":1");
  EXPECT_EQ(message("logit_bias", many + "}"),
            "logit_bias must have at most 1024 tokens, not 1025");
}

TEST(BodyForm, OnlyJsonStartsAGeneration) {
  const std::string body = R"({"prompt":"a"})";
  GatewayFixture fixture;
  for (const std::string type : {"text/plain", "text/plain;application/json", "application/jsonx",
                                 "application/x-www-form-urlencoded", "application/+json", ""}) {
    const Reply reply = fixture.Post(kCompletions, body, "Content-Type: " + type + "\r\n");
    EXPECT_EQ(reply.status, 415) << type;
    EXPECT_EQ(reply.json()["error"]["code"], "unsupported_media_type");
    EXPECT_THAT(reply.body, HasSubstr("send the header Content-Type: application/json"));
  }
  auto client = fixture.Connect();
  client->Send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n" + body);
  EXPECT_EQ(client->TakeReply().status, 415);
  EXPECT_TRUE(fixture.generation.sequences.empty());
  for (const std::string type :
       {"application/json", "Application/JSON ; charset=utf-8", "application/vnd.api+json"}) {
    auto taken = fixture.Connect();
    taken->Request("POST", kCompletions, body, "Content-Type: " + type + "\r\n");
  }
  EXPECT_EQ(fixture.generation.sequences.size(), 3U);
}

TEST(BodyForm, AnEncodedBodyIs415AndNamesWhatIsRead) {
  GatewayFixture fixture;
  const Reply reply = fixture.Post(kCompletions, "\x1f\x8b\x08", "Content-Encoding: gzip\r\n");
  EXPECT_EQ(reply.status, 415);
  EXPECT_EQ(reply.json()["error"]["code"], "unsupported_encoding");
  EXPECT_EQ(reply.headers.at("accept-encoding"), "identity");
  EXPECT_THAT(reply.body, HasSubstr("only identity is read"));
}

TEST(BadRequest, SaysWhereJsonIsMalformed) {
  GatewayFixture fixture;
  const Reply reply = fixture.Post(kCompletions, "{\"prompt\":\n \"a\",}");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "invalid_json");
  EXPECT_THAT(reply.body, HasSubstr("line 2"));
}

TEST(BadRequest, AcceptsWhatChangesNothingAndNamesWhatItDoesNotKnow) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions,
                  R"({"prompt":"a","user":"u","metadata":{"a":"b"},"store":true,"n":1,)"
                  R"("logit_bias":{},"presence_penalty":0,"stop":null,"tools":[],"nonsense":1})");
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("x-shoal-ignored"), "nonsense");
}

TEST(BadRequest, GivesBothNumbersOfATooLongPrompt) {
  GatewayFixture fixture;
  const Reply reply = fixture.Post(kCompletions, json{{"prompt", std::string(100, 'a')}}.dump());
  EXPECT_EQ(reply.status, 400);
  const json error = reply.json()["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["prompt_tokens"], 100);
  EXPECT_EQ(error["max_context"], 100);
  // Frameworks in front of a model know these words, and then shorten the conversation.
  EXPECT_THAT(error["message"].get<std::string>(),
              testing::AllOf(HasSubstr("This model's maximum context length is 100 tokens"),
                             HasSubstr("prompt is too long")));
}

TEST(BadRequest, NamesATokenThatTheTokenizerHasAndTheModelHasNot) {
  GatewayFixture fixture;
  TextService text;
  text.tokenizer = &fixture.tokenizer;
  text.vocab_size = kEos;  // Its special tokens have no rows.
  text.encode_chat = [](const nlohmann::ordered_json&) { return std::vector<int32_t>{65, kEos}; };
  fixture.gateway = std::make_unique<HttpGateway>(HttpGatewayOptions{}, fixture.generation,
                                                  std::move(text), fixture.timer, fixture.port);
  for (const auto& [path, body] : std::vector<std::pair<std::string_view, std::string>>{
           {kCompletions, R"({"prompt":["a","b<eos>"]})"},
           {kChat, R"({"messages":[{"role":"user","content":"x"}]})"}}) {
    const Reply reply = fixture.Post(path, body);
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(reply.json()["error"]["param"], path == kChat ? "messages" : "prompt[1]");
    EXPECT_THAT(reply.json()["error"]["message"].get<std::string>(),
                HasSubstr(R"(has the token "<eos>", which the tokenizer knows as 256, but the )"
                          "model has only 256 tokens"));
  }
  // What the groups say counts too.
  fixture.generation.served.vocab_size = 97;
  EXPECT_EQ(fixture.Post(kCompletions, R"({"prompt":"b"})").status, 400);
  EXPECT_EQ(fixture.Post(kCompletions, R"({"prompt":[97]})").json()["error"]["param"], "prompt[0]");
  EXPECT_TRUE(fixture.generation.sequences.empty());
}

TEST(BadRequest, ShortensTheAnswerToTheContextButRefusesMoreThanTheCache) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"abcd","max_tokens":1000})");
  EXPECT_EQ(fixture.generation.sequences.at(0).params.tokens_max, 96);
  fixture.generation.served.kv_cache_tokens = 50;
  const Reply reply = fixture.Post(kCompletions, R"({"prompt":"abcd","max_tokens":47})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "kv_cache_exceeded");
  auto chat = fixture.Connect();
  chat->Request("POST", kChat, R"({"messages":[{"role":"user","content":"hi"}]})");
  const auto& sequence = fixture.generation.sequences.at(1);
  EXPECT_EQ(sequence.params.tokens_max + static_cast<int64_t>(sequence.prompt.size()), 50);
}

TEST(NoTokenizer, LeavesTokenIdsInAndOut) {
  GatewayFixture fixture;
  TextService text;
  text.vocab_size = 10;
  fixture.gateway = std::make_unique<HttpGateway>(HttpGatewayOptions{}, fixture.generation,
                                                  std::move(text), fixture.timer, fixture.port);
  EXPECT_EQ(fixture.Post(kCompletions, R"({"prompt":"a"})").json()["error"]["code"],
            "no_tokenizer");
  EXPECT_EQ(fixture.Post(kCompletions, R"({"prompt":[1],"stop":"a"})").json()["error"]["param"],
            "stop");
  auto client = fixture.Connect();
  client->Request("POST", kCompletions,
                  R"({"prompt":[1],"echo":true,"logprobs":1,"return_token_ids":true})");
  fixture.generation.Finish(0, FinishReason::kLength, {7, 8});
  const json choice = client->TakeReply().json()["choices"][0];
  EXPECT_EQ(choice["text"], "");
  EXPECT_EQ(choice["token_ids"], json({7, 8}));
  EXPECT_EQ(choice["logprobs"]["token_ids"], json({1, 7, 8}));
}

TEST(NoChatTemplate, IsSaidAndCompletionsAreOffered) {
  GatewayFixture fixture;
  TextService text;
  text.tokenizer = &fixture.tokenizer;
  fixture.gateway = std::make_unique<HttpGateway>(HttpGatewayOptions{}, fixture.generation,
                                                  std::move(text), fixture.timer, fixture.port);
  const Reply reply = fixture.Post(kChat, R"({"messages":[{"role":"user","content":"x"}]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "no_chat_template");
  EXPECT_THAT(reply.body, HasSubstr(kCompletions));
}

TEST(NoChatTemplate, IsRefusedWithTheReasonWhereThereIsOneThatCannotBeUsed) {
  GatewayFixture fixture;
  TextService text;
  text.tokenizer = &fixture.tokenizer;
  text.vocab_size = kByteVocabSize;
  text.chat_refusal = "line 2: the filter 'urlize'";
  fixture.gateway = std::make_unique<HttpGateway>(HttpGatewayOptions{}, fixture.generation,
                                                  std::move(text), fixture.timer, fixture.port);
  const Reply reply = fixture.Post(kChat, R"({"messages":[{"role":"user","content":"x"}]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "no_chat_template");
  EXPECT_THAT(reply.body, HasSubstr("the filter 'urlize'"));
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a"})");
  EXPECT_EQ(fixture.generation.sequences.size(), 1U) << "completions are served";
}

TEST(BadRequest, NamesAStopTokenBeyondTheVocabulary) {
  GatewayFixture fixture;
  const Reply reply = fixture.Post(kCompletions, R"({"prompt":"a","stop_token_ids":[100000]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["param"], "stop_token_ids");
}

TEST(BadRequest, HasEachHeaderThatSaysHowToReadItOnce) {
  GatewayFixture fixture;
  for (const std::string_view headers :
       {"Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"}) {
    const Reply reply = fixture.Post(kCompletions, R"({"prompt":"a"})", headers);
    EXPECT_EQ(reply.status, 400) << headers;
    EXPECT_EQ(reply.json()["error"]["code"], "duplicate_header");
  }
}

TEST(UnknownModel, Is404AndNamesWhatIsServed) {
  GatewayFixture fixture;
  fixture.generation.others = {{"bytes", "version"}, {"org/second", "version", 50}};
  const Reply reply = fixture.Post(kCompletions, R"({"prompt":"a","model":"third"})");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.json()["error"]["code"], "model_not_found");
  EXPECT_THAT(reply.body, HasSubstr("served: bytes, org/second"));
  EXPECT_EQ(fixture.Get("/v1/models/third").status, 404);
  EXPECT_EQ(fixture.Get("/v1/models/org%2Fsecond").json()["id"], "org/second");
  EXPECT_EQ(fixture.Get("/v1/models/org/second").json()["max_model_len"], 50);
  const auto listed = fixture.Get("/v1/models").json()["data"];
  ASSERT_EQ(listed.size(), 2U) << "two versions have one name";
  EXPECT_EQ(listed[0]["id"], "bytes");
  EXPECT_EQ(listed[0]["max_model_len"], 100);
}

TEST(UnknownPath, Is404AndAWrongMethodIs405) {
  GatewayFixture fixture;
  const Reply unknown = fixture.Get("/v2/nothing");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.json()["error"]["message"].get<std::string>(), HasSubstr(kChat));
  const Reply wrong = fixture.Get(kChat);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST");
  EXPECT_EQ(fixture.Post("/livez", "x").headers.at("allow"), "GET, HEAD");
}

TEST(ApiKeys, AreNeededEverywhereButForHealthAndVersion) {
  HttpGatewayOptions options;
  options.find_caller = [](std::string_view key) {
    return key == "sk-one" || key == "sk-two" ? std::optional(rpc::Caller()) : std::nullopt;
  };
  options.version_json = R"({"name":"shoal","version":"1"})";
  GatewayFixture fixture(std::move(options));
  for (const std::string_view path : {"/livez", "/readyz", "/health", "/version"}) {
    EXPECT_EQ(fixture.Get(path).status, 200) << path;
  }
  for (const std::string_view path : {"/v1/models", "/metrics", "/v1/completions", "/nothing"}) {
    EXPECT_EQ(fixture.Get(path).status, 401) << path;
    EXPECT_EQ(fixture.Get(path, "Authorization: Bearer sk-on\r\n").status, 401) << path;
    EXPECT_EQ(fixture.Get(path, "Authorization: Basic sk-one\r\n").status, 401) << path;
    EXPECT_NE(fixture.Get(path, "Authorization: bearer sk-two\r\n").status, 401) << path;
  }
  EXPECT_EQ(fixture.Get("/v1/models").headers.at("www-authenticate"), "Bearer");
}

TEST(Overload, IsATypedRefusalBeforeTheFirstByte) {
  GatewayFixture fixture;
  fixture.generation.served.context_tokens = 0;
  const Reply none = fixture.Post(kCompletions, R"({"prompt":"a"})");
  EXPECT_EQ(none.status, 503);
  EXPECT_EQ(none.json()["error"]["code"], "no_group");
  EXPECT_EQ(none.headers.at("retry-after"), "5");
  fixture.generation.served.context_tokens = 100;
  fixture.generation.refusal = {BusyReason::kTooLarge, "too large for any group", 0};
  EXPECT_EQ(fixture.Post(kCompletions, R"({"prompt":"a"})").status, 400);
}

TEST(Readiness, FollowsTheGroups) {
  GatewayFixture fixture;
  EXPECT_EQ(fixture.Get("/readyz").status, 200);
  // A group of another model, which requests that name none do not get, does not count.
  fixture.generation.served.groups_ready = 0;
  ASSERT_TRUE(fixture.generation.region.groups[0].state == GroupState::kReady);
  EXPECT_EQ(fixture.Get("/readyz").status, 503);
  EXPECT_EQ(fixture.Get("/health").status, 503);
  EXPECT_EQ(fixture.Get("/livez").status, 200);
}

TEST(Metrics, AreThereFromTheStart) {
  GatewayFixture fixture;
  fixture.generation.region.groups.clear();
  const std::string empty = fixture.Get("/metrics").body;
  for (const std::string_view name :
       {"shoal_steps_total", "shoal_sequences_running", "shoal_requests_waiting",
        "shoal_kv_blocks_used", "shoal_kv_blocks_total", "shoal_groups_ready", "shoal_group_epoch",
        "shoal_prefix_cache_queries_total", "shoal_prefix_cache_hit_tokens_total"}) {
    EXPECT_THAT(empty, HasSubstr("\n" + std::string(name) + " 0\n"));
  }
  GroupStatus group;
  group.state = GroupState::kReady;
  group.epoch = 3;
  group.stats.requests_waiting = 2;
  group.stats.kv_blocks_used = 5;
  fixture.generation.region.totals.prefix_cache_hit_tokens_total = 192;
  fixture.generation.region.groups = {group, group};
  fixture.generation.region.requests_waiting = 10;
  ServedModel model{"by\"tes\\\n\xFF\xC3\xA9", "00ff"};
  model.groups_ready = 2;
  model.requests_waiting = 10;
  fixture.generation.region.models = {model};
  const std::string body = fixture.Get("/metrics").body;
  EXPECT_THAT(body, HasSubstr("\nshoal_requests_waiting 14\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_kv_blocks_used 10\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_prefix_cache_hit_tokens_total 192\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_group_epoch 3\n"));
  const std::string labels =
      "{model=\"by\\\"tes\\\\\\n\xEF\xBF\xBD\xC3\xA9\",numerics_id=\"00ff\"}";
  EXPECT_THAT(body, HasSubstr("\nshoal_model_groups_ready" + labels + " 2\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_model_requests_waiting" + labels + " 10\n"));
  EXPECT_THAT(body, HasSubstr("shoal_http_requests_total{path=\"/metrics\",code=\"200\"} 2\n"));
  EXPECT_TRUE(IsWellFormedUtf8(body));
}

// What Prometheus makes of a name: _total is a counter's, and every family says what it is.
TEST(Metrics, AreNamedAfterTheirKind) {
  GatewayFixture fixture;
  fixture.generation.region.models = {ServedModel{"bytes", "00ff"}};
  std::istringstream lines(fixture.Get("/metrics").body);
  std::map<std::string, std::string> types;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first;
    std::string kind;
    std::string name;
    std::string type;
    words >> first >> kind >> name >> type;
    if (first == "#" && kind == "TYPE") types[name] = type;
    if (first.starts_with("#")) continue;
    name = first.substr(0, first.find('{'));
    for (const char* part : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with(part)) name.resize(name.size() - std::string_view(part).size());
    }
    EXPECT_TRUE(types.contains(name)) << line << " comes before its # TYPE";
  }
  EXPECT_EQ(types["shoal_kv_blocks"], "gauge");
  // Promised before; as it is no counter it is of no type.
  EXPECT_EQ(types["shoal_kv_blocks_total"], "untyped");
  types.erase("shoal_kv_blocks_total");
  for (const auto& [name, type] : types) {
    EXPECT_EQ(name.ends_with("_total"), type == "counter") << name << " is a " << type;
  }
}

// What `promtool check metrics` asks for.
TEST(Metrics, SayWhatEachFamilyIsAndCallCountersAloneTotal) {
  GatewayFixture fixture;
  EXPECT_EQ(fixture.Get("/livez").status, 200);
  std::istringstream lines(fixture.Get("/metrics").body);
  std::string help;
  std::string type;
  std::set<std::string> families;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string mark, kind, name, rest;
    words >> mark >> kind >> name;
    if (mark != "#") {
      const std::string sample = line.substr(0, line.find_first_of("{ "));
      EXPECT_TRUE(sample.starts_with(help)) << line << " has no HELP";
      EXPECT_TRUE(type == "histogram" || sample == help) << line;
      continue;
    }
    std::getline(words, rest);
    EXPECT_GT(rest.size(), 1u) << line;
    if (kind == "HELP") {
      EXPECT_TRUE(families.insert(name).second) << name << " comes twice";
      help = name;
      continue;
    }
    EXPECT_EQ(kind, "TYPE") << line;
    EXPECT_EQ(name, help) << "HELP comes first";
    type = rest.substr(1);
    EXPECT_TRUE(type == "untyped" || name.ends_with("_total") == (type == "counter")) << line;
  }
  EXPECT_GE(families.size(), 20u);
}

TEST(Metrics, AddUpSecondsExactly) {
  Histogram histogram({1.0});
  histogram.Observe(1'000'000);
  histogram.Observe(0.25);
  std::string text;
  histogram.Write("waits_seconds", "Waits.", text);
  EXPECT_EQ(text,
            "# HELP waits_seconds Waits.\n# TYPE waits_seconds histogram\n"
            "waits_seconds_bucket{le=\"1\"} 1\nwaits_seconds_bucket{le=\"+Inf\"} 2\n"
            "waits_seconds_sum 1000000.25\nwaits_seconds_count 2\n");
}

}  // namespace
}  // namespace shoal::gateway
