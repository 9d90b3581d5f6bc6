// The endpoints: what a client gets for a generation, streamed and not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "coordinator/gateway/api/api_error.h"
#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";

// Sends the request, lets `deal` answer it, and returns what came.
template <typename Deal>
Reply Ask(GatewayFixture& fixture, std::string_view path, const json& body, Deal deal) {
  auto client = fixture.Connect();
  client->Request("POST", path, body.dump());
  deal(fixture.generation);
  return client->TakeReply();
}

TEST(Completions, AnswersWithTextUsageAndFingerprint) {
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kCompletions, {{"prompt", "hi"}, {"model", "bytes"}},
                          [](FakeGeneration& generation) {
                            generation.Deliver(0, "wor");
                            generation.Finish(0, FinishReason::kStop, {'d', kEos});
                          });
  EXPECT_EQ(reply.status, 200);
  const json body = reply.json();
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(body["model"], "bytes");
  EXPECT_EQ(body["created"], 1000);
  EXPECT_EQ(body["system_fingerprint"], "fp_0123456789abcdef");
  EXPECT_EQ(body["choices"][0]["text"], "word");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["choices"][0]["logprobs"], nullptr);
  EXPECT_FALSE(body["choices"][0].contains("token_ids"));
  EXPECT_EQ(body["usage"], json({{"prompt_tokens", 2},
                                 {"completion_tokens", 5},
                                 {"total_tokens", 7},
                                 {"prompt_tokens_details", {{"cached_tokens", 0}}}}));
  EXPECT_FALSE(body.contains("warnings"));
}

TEST(Completions, HandsTheParametersOn) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  auto client = fixture.Connect();
  client->Request("POST", kCompletions,
                  R"({"prompt":"a<eos>","max_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":40,)"
                  R"("min_p":0.05,"seed":-1,"logprobs":3,"stop_token_ids":[65],)"
                  R"("priority":-3,"cache_salt":"tenant"})");
  const auto& sequence = fixture.generation.sequences.at(0);
  EXPECT_THAT(sequence.prompt, ElementsAre(kBos, 'a', kEos));
  GenerationParams expected;
  expected.sampling = {0.5, 40, 0.9, 0.05, UINT64_MAX, 0};
  expected.tokens_max = 7;
  expected.stop_ids = {65, kEos};
  expected.top_logprobs = 3;
  expected.priority = -3;
  expected.cache_salt = "tenant";
  EXPECT_EQ(sequence.params, expected);
}

TEST(BothEndpoints, HandOnPenaltiesAndBiases) {
  const std::string fields =
      R"("max_tokens":7,"typical_p":0.6,"repetition_penalty":1.2,"frequency_penalty":-2,)"
      R"("presence_penalty":0.5,"logit_bias":{"65":-100,"0":0.25},"min_tokens":3,"seed":5)";
  GatewayFixture fixture;
  auto completion = fixture.Connect();
  completion->Request("POST", kCompletions, R"({"prompt":"a",)" + fields + "}");
  auto chat = fixture.Connect();
  chat->Request("POST", kChat, R"({"messages":[{"role":"user","content":"hi"}],)" + fields + "}");
  SamplingParams expected = {.seed = 5, .typical_p = 0.6};
  expected.repetition_penalty = 1.2;
  expected.frequency_penalty = -2;
  expected.presence_penalty = 0.5;
  expected.logit_bias = {{65, -100.0F}, {0, 0.25F}};
  expected.min_tokens = 3;
  for (const size_t i : {0u, 1u}) {
    EXPECT_EQ(fixture.generation.sequences.at(i).params.sampling, expected);
  }
}

TEST(BothEndpoints, HandOnTheGrammarOfEachSpelling) {
  const std::string schema = R"({"type":"object","properties":{"b":{},"a":{}}})";
  const std::string named = R"({"type":"json_schema","json_schema":{"name":"n","schema":)" + schema;
  const std::pair<std::string, GrammarSource> cases[] = {
      {R"("response_format":{"type":"text"})", {}},
      {R"("response_format":{"type":"json_object"})", {GrammarKind::kJsonObject, ""}},
      {R"("response_format":)" + named + "}}", {GrammarKind::kJsonSchema, schema}},
      {R"("response_format":)" + named + R"(,"strict":false}})",
       {GrammarKind::kJsonSchema, schema}},
      {R"("structured_outputs":{"json":)" + schema + "}", {GrammarKind::kJsonSchema, schema}},
      {R"("structured_outputs":{"regex":"a+"})", {GrammarKind::kRegex, "a+"}},
      {R"("structured_outputs":{"choice":["a","b"]})", {GrammarKind::kChoice, R"(["a","b"])"}},
      {R"("structured_outputs":{"json_object":true})", {GrammarKind::kJsonObject, ""}},
      {R"("guided_json":"{\"type\":\"null\"}")", {GrammarKind::kJsonSchema, R"({"type":"null"})"}},
      {R"("guided_regex":"b*")", {GrammarKind::kRegex, "b*"}},
      {R"("guided_choice":["x"])", {GrammarKind::kChoice, R"(["x"])"}},
  };
  for (const auto& [field, expected] : cases) {
    GatewayFixture fixture;
    auto completion = fixture.Connect();
    completion->Request("POST", kCompletions, R"({"prompt":"a",)" + field + "}");
    auto chat = fixture.Connect();
    chat->Request("POST", kChat,
                  R"({"messages":[{"role":"user","content":"hi"}],"stream":true,)" + field + "}");
    for (const size_t i : {0u, 1u}) {
      ASSERT_GT(fixture.generation.sequences.size(), i) << field;
      EXPECT_EQ(fixture.generation.sequences[i].params.grammar, expected) << field;
    }
  }
}

TEST(Completions, PromiseNoMoreTokensThanTheContextHasRoomFor) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"abcd","max_tokens":200,"min_tokens":150})");
  const GenerationParams& params = fixture.generation.sequences.at(0).params;
  EXPECT_EQ(params.tokens_max, 96);
  EXPECT_EQ(params.sampling.min_tokens, 96);
}

TEST(StopStrings, AreLookedForBehindMinTokensOnly) {
  const json request = {
      {"prompt", "x"}, {"stop", "ab"}, {"min_tokens", 3}, {"max_tokens", 16}, {"seed", 1}};
  for (const bool at_once : {false, true}) {
    GatewayFixture fixture;
    // "ab" within the first three tokens, "ab" that begins in them, and one that counts.
    const Reply reply = Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
      if (at_once) return generation.Deliver(0, "abababc");
      for (const char* token : {"a", "b", "a", "b", "a", "b"}) generation.Deliver(0, token);
    });
    const json choice = reply.json()["choices"][0];
    EXPECT_EQ(choice["text"], "abab");
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_TRUE(fixture.generation.sequences.at(0).cancelled);
  }
}

// <bos> is special and no end of this model's; <eos> is its end.
TEST(StopStrings, MatchTheTextOfSpecialTokensWhereTheyCome) {
  struct Case {
    const char* stop;
    std::vector<int32_t> tokens;
    const char* text;
    size_t used;  // Tokens up to the match.
  };
  const Case cases[] = {{"<bos>", {'a', 'b', kBos, 'c'}, "ab", 3},
                        {"b<bos>", {'a', 'b', kBos, 'c'}, "a", 3},
                        {"<bos>c", {'a', 'b', kBos, 'c', 'd'}, "ab", 4},
                        {"b<eos>", {'a', 'b', kEos}, "a", 3}};
  for (const auto& [stop, tokens, text, used] : cases) {
    for (const bool at_once : {false, true}) {
      GatewayFixture fixture;
      const json request = {{"prompt", "x"}, {"stop", stop}, {"max_tokens", 16}, {"seed", 1}};
      const Reply reply = Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
        if (tokens.back() == kEos) return generation.Finish(0, FinishReason::kStop, tokens);
        if (at_once) return generation.Deliver(0, tokens);
        for (const int32_t token : tokens) generation.Deliver(0, std::vector<int32_t>{token});
      });
      const json body = reply.json();
      EXPECT_EQ(body["choices"][0]["text"], text) << stop;
      EXPECT_EQ(body["choices"][0]["finish_reason"], "stop") << stop;
      EXPECT_EQ(body["usage"]["completion_tokens"], used) << stop;
    }
  }
}

// Behind min_tokens, and where ignore_eos lets the answer go on.
TEST(StopStrings, MatchAnEndThatIsIgnored) {
  GatewayFixture fixture;
  const json request = {{"prompt", "x"},    {"stop", "<eos>"},    {"min_tokens", 1},
                        {"max_tokens", 16}, {"ignore_eos", true}, {"seed", 1}};
  const Reply reply = Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
    generation.Deliver(0, std::vector<int32_t>{kEos, 'a', kEos, 'b'});
  });
  EXPECT_EQ(reply.json()["choices"][0]["text"], "a");
  EXPECT_EQ(reply.json()["usage"]["completion_tokens"], 3);
}

TEST(Completions, DefaultsAreThePromisedOnes) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":[1,2,3],"ignore_eos":true})");
  const auto& params = fixture.generation.sequences.at(0).params;
  EXPECT_EQ(params.tokens_max, 16);
  EXPECT_THAT(params.stop_ids, ElementsAre());
  EXPECT_EQ(params.top_logprobs, -1);
  const SamplingParams& sampling = params.sampling;
  EXPECT_EQ(sampling, (SamplingParams{1, 0, 1, 0, sampling.seed, 0}));
  auto chat = fixture.Connect();
  chat->Request("POST", kChat, R"({"messages":[{"role":"user","content":"hi"}]})");
  const auto& chat_sequence = fixture.generation.sequences.at(1);
  EXPECT_EQ(chat_sequence.params.tokens_max,
            100 - static_cast<int64_t>(chat_sequence.prompt.size()));
  EXPECT_THAT(chat_sequence.params.stop_ids, ElementsAre(kEos));
}

TEST(Completions, GivesAnUnseededRequestItsSeedAsAnInt64) {
  GatewayFixture fixture;
  const auto deal = [](FakeGeneration& generation) {
    generation.Finish(generation.sequences.size() - 1, FinishReason::kLength, {'x'});
  };
  const Reply unseeded = Ask(fixture, kCompletions, {{"prompt", "a"}}, deal);
  const auto seed = static_cast<int64_t>(fixture.generation.sequences[0].params.sampling.seed);
  EXPECT_LT(seed, 0) << "the fake's random numbers start near 2^64";
  EXPECT_EQ(unseeded.headers.at("x-shoal-seed"), std::to_string(seed));
  const Reply seeded = Ask(fixture, kCompletions, {{"prompt", "a"}, {"seed", 5}}, deal);
  EXPECT_FALSE(seeded.headers.contains("x-shoal-seed"));
}

TEST(Completions, PrintsEveryArrayOfLogprobsWithEcho) {
  GatewayFixture fixture({}, /*adds_bos=*/true);
  const json request = {{"prompt", "h\u00e9"}, {"echo", true}, {"logprobs", 2},
                        {"max_tokens", 2},     {"seed", 1},    {"return_token_ids", true}};
  const Reply reply = Ask(fixture, kCompletions, request, [](FakeGeneration& generation) {
    generation.Finish(0, FinishReason::kLength, {'x', 0xC3});
  });
  const json choice = reply.json()["choices"][0];
  EXPECT_EQ(choice["text"], "h\u00e9x\ufffd");
  EXPECT_EQ(choice["token_ids"], json({'x', 0xC3}));
  EXPECT_EQ(choice["prompt_token_ids"], json({kBos, 'h', 0xC3, 0xA9}));
  const json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"],
            json({"<bos>", "h", "bytes:\\xc3", "bytes:\\xa9", "x", "bytes:\\xc3"}));
  EXPECT_EQ(logprobs["token_ids"], json({kBos, 'h', 0xC3, 0xA9, 'x', 0xC3}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 0, 1, 1, 2, 3}));
  EXPECT_EQ(logprobs["token_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_token_ids"][0], nullptr);
  EXPECT_EQ(logprobs["top_token_logprobs"][0], nullptr);
  for (const auto& [name, array] : logprobs.items()) EXPECT_EQ(array.size(), 6U) << name;
  EXPECT_EQ(logprobs["top_token_ids"][4], json({'a', 'b'}));
  EXPECT_THAT(reply.body, HasSubstr("[-0.3,-0.6]")) << "the shortest decimals of binary32";
  EXPECT_EQ(logprobs["top_logprobs"][4].size(), 3U) << "the two best and the token itself";
}

TEST(Completions, EchoesWithoutGeneratingForNoTokens) {
  GatewayFixture fixture;
  const Reply echo =
      fixture.Post(kCompletions, R"({"prompt":["ab",[99]],"echo":true,"max_tokens":0,"seed":1})");
  EXPECT_EQ(echo.json()["choices"][0]["text"], "ab");
  EXPECT_EQ(echo.json()["choices"][1]["text"], "c");
  EXPECT_TRUE(fixture.generation.sequences.empty());
  const Reply scored =
      Ask(fixture, kCompletions,
          {{"prompt", "ab"}, {"echo", true}, {"max_tokens", 0}, {"logprobs", 0}, {"seed", 1}},
          [](FakeGeneration& generation) { generation.Finish(0, FinishReason::kLength); });
  EXPECT_EQ(fixture.generation.sequences[0].params.tokens_max, 0);
  EXPECT_EQ(scored.json()["choices"][0]["logprobs"]["tokens"], json({"a", "b"}));
  EXPECT_EQ(scored.json()["usage"]["completion_tokens"], 0);
}

TEST(Completions, AnswersSeveralPromptsAndSeveralTimesInOrder) {
  GatewayFixture fixture;
  const Reply reply = Ask(
      fixture, kCompletions, {{"prompt", {"a", "b"}}, {"n", 2}}, [](FakeGeneration& generation) {
        for (const size_t i : {3, 0, 2, 1}) {
          generation.Finish(i, FinishReason::kLength, {static_cast<int32_t>('0' + i)});
        }
      });
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(reply.json()["choices"][i]["text"], std::to_string(i));
    EXPECT_EQ(reply.json()["choices"][i]["index"], i);
    EXPECT_EQ(fixture.generation.sequences[i].params.sampling.choice, i % 2);
    EXPECT_EQ(fixture.generation.sequences[i].prompt[0], i < 2 ? 'a' : 'b');
  }
  EXPECT_EQ(reply.json()["usage"]["prompt_tokens"], 2);
}

TEST(Completions, StreamsWhatItWouldHaveAnsweredWhole) {
  // Bytes of two- to four-byte characters, an ill-formed one, a stop string cut in two.
  const std::string answer = "h\u00e9 \u20ac \U0001F600 \xE2\x82 ST STO and STOP and more";
  for (const json& extra : {json::object(), json{{"stop", "STOP"}}, json{{"stop", {"zz", "TOP"}}},
                            json{{"echo", true}}}) {
    for (const size_t step : {1U, 3U, 100U}) {
      json request = {{"prompt", "p\u00e9"},
                      {"seed", 3},
                      {"logprobs", 2},
                      {"max_tokens", 90},
                      {"return_token_ids", true}};
      request.update(extra);
      std::vector<Reply> replies;
      for (const bool stream : {false, true}) {
        request["stream"] = stream;
        GatewayFixture fixture;
        replies.push_back(Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
          const size_t batch = stream ? step : 1;
          for (size_t at = 0; at < answer.size(); at += batch) {
            generation.Deliver(0, std::string_view(answer).substr(at, batch));
          }
          generation.Finish(0, FinishReason::kStop, {kEos});
          EXPECT_EQ(generation.sequences[0].cancelled, request.contains("stop"));
        }));
        ASSERT_TRUE(replies.back().complete);
      }
      EXPECT_EQ(JoinChunks(replies[1]), replies[0].json()["choices"]) << request;
    }
  }
}

TEST(Completions, CutsBeforeAStopStringAndCancels) {
  GatewayFixture fixture;
  const Reply reply = Ask(fixture, kCompletions, {{"prompt", "a"}, {"stop", "END"}},
                          [](FakeGeneration& generation) {
                            generation.Deliver(0, "one EN");
                            generation.Deliver(0, "D two");
                            EXPECT_TRUE(generation.sequences[0].cancelled);
                          });
  EXPECT_EQ(reply.json()["choices"][0]["text"], "one ");
  EXPECT_EQ(reply.json()["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(reply.json()["usage"]["completion_tokens"], 7) << "the tokens up to the match";
}

TEST(Completions, DoesNotAskToRetryWhatAGroupRefuses) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a"})");
  fixture.generation.Fail(0, BusyReason::kRefused);
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.status, 500);
  EXPECT_FALSE(reply.headers.contains("retry-after"));
  EXPECT_EQ(reply.json()["error"]["code"], "refused");
}

TEST(ErrorResponse, AsksToComeAgainOnlyWhereThatMayHelp) {
  const auto response = [](BusyReason reason) {
    return ErrorResponse(FromStreamError(MakeStreamError(reason, "why")), "r");
  };
  const auto asks = [](const HttpResponse& to) {
    return std::ranges::any_of(to.headers,
                               [](const auto& header) { return header.first == "Retry-After"; });
  };
  EXPECT_TRUE(asks(response(BusyReason::kQueueFull)));
  // The header says the same as the body.
  const HttpResponse late = response(BusyReason::kDeadlineExceeded);
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(json::parse(late.body)["error"]["retry_after_ms"], 0);
  EXPECT_FALSE(asks(late));
}

TEST(Completions, HoldsTheStatusLineUntilTheFirstToken) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  EXPECT_EQ(client->received(), "");
  fixture.generation.Fail(0, BusyReason::kGroupLost);
  const Reply lost = client->TakeReply();
  EXPECT_EQ(lost.status, 503);
  EXPECT_EQ(lost.headers.at("retry-after"), "2");
  EXPECT_EQ(lost.json()["error"]["code"], "group_lost");
  EXPECT_EQ(lost.json()["error"]["request_id"], lost.headers.at("x-request-id"));

  client->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  fixture.generation.Deliver(1, "x");
  fixture.generation.Fail(1, BusyReason::kGroupLost);
  const Reply later = client->TakeReply();
  EXPECT_EQ(later.status, 200);
  EXPECT_EQ(later.events().size(), 3U);
  EXPECT_EQ(json::parse(later.events()[1])["error"]["code"], "group_lost");
  EXPECT_EQ(later.events()[2], "[DONE]");
}

TEST(Completions, SaysNumericErrorBeforeAndAfterTheFirstByte) {
  GatewayFixture fixture;
  const auto deal = [](FakeGeneration& generation) {
    generation.Finish(generation.sequences.size() - 1, FinishReason::kNumericError);
  };
  const Reply before = Ask(fixture, kCompletions, {{"prompt", "a"}}, deal);
  EXPECT_EQ(before.status, 500);
  EXPECT_EQ(before.json()["error"]["code"], "numeric_error");
  EXPECT_THAT(before.json()["error"]["message"].get<std::string>(), HasSubstr("layer 7"));
  const Reply after = Ask(fixture, kCompletions, {{"prompt", "a"}, {"stream", true}},
                          [&](FakeGeneration& generation) {
                            generation.Deliver(1, "x");
                            deal(generation);
                          });
  EXPECT_EQ(after.status, 200);
  EXPECT_EQ(json::parse(after.events()[1])["error"]["code"], "numeric_error");
}

TEST(Completions, KeepsTheTokensThatComeWithANumericError) {
  const auto answer = [](const json& request, bool together) {
    GatewayFixture fixture;
    return Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
      generation.Deliver(0, "x");
      if (!together) generation.Deliver(0, "yz");
      generation.Finish(0, FinishReason::kNumericError,
                        together ? std::vector<int32_t>{'y', 'z'} : std::vector<int32_t>{});
    });
  };
  json request = {{"prompt", "a"}, {"seed", 1}, {"logprobs", 1}, {"stream", true}};
  const Reply streamed = answer(request, true);
  EXPECT_EQ(streamed.body, answer(request, false).body);
  const auto events = streamed.events();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(json::parse(events[1])["choices"][0]["text"], "yz");
  EXPECT_EQ(json::parse(events[1])["choices"][0]["logprobs"]["tokens"], json({"y", "z"}));
  EXPECT_EQ(json::parse(events[2])["error"]["code"], "numeric_error");

  request["stop"] = "z";  // An answer that ended before the error did not meet it.
  for (const bool together : {false, true}) {
    const Reply stopped = answer(request, together);
    EXPECT_EQ(JoinChunks(stopped)[0]["text"], "xy");
    EXPECT_EQ(JoinChunks(stopped)[0]["finish_reason"], "stop");
  }
  for (const bool together : {false, true}) {
    const Reply whole = answer({{"prompt", "a"}}, together);
    EXPECT_EQ(whole.status, 500);
    EXPECT_EQ(whole.json()["error"]["code"], "numeric_error");
  }
}

TEST(Completions, OneFailedChoiceEndsTheOthers) {
  GatewayFixture fixture;
  const Reply reply =
      Ask(fixture, kCompletions, {{"prompt", "a"}, {"n", 3}}, [](FakeGeneration& generation) {
        generation.Finish(0, FinishReason::kLength, {'x'});
        generation.Fail(1, BusyReason::kGroupLost);
        EXPECT_TRUE(generation.sequences[2].cancelled);
      });
  EXPECT_EQ(reply.status, 503);
}

TEST(Completions, TakesBackWhatWasSubmittedWhenAChoiceIsRefused) {
  GatewayFixture fixture;
  fixture.generation.refusal = {BusyReason::kQueueFull, "the queue is full", 100};
  fixture.generation.accepted_before_refusal = 2;
  const Reply reply = fixture.Post(kCompletions, R"({"prompt":"a","n":3})");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "queue_full");
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
  EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
  EXPECT_TRUE(fixture.generation.sequences[1].cancelled);
}

TEST(Completions, RefusesForGoodMoreSequencesThanCanEverBeHeldAtOnce) {
  GatewayFixture fixture;
  fixture.generation.served.requests_max = 5;
  const Reply reply = fixture.Post(kCompletions, R"({"prompt":["a","b"],"n":3})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_FALSE(reply.headers.contains("retry-after"));
  EXPECT_EQ(reply.json()["error"]["code"], "too_large");
  EXPECT_EQ(reply.json()["error"]["param"], "prompt");
  EXPECT_THAT(reply.json()["error"]["message"].get<std::string>(),
              testing::AllOf(HasSubstr("6 sequences"), HasSubstr("holds 5")));
  EXPECT_TRUE(fixture.generation.sequences.empty());
  EXPECT_THAT(fixture.Get("/metrics").body, HasSubstr("\nshoal_requests_cancelled_total 0\n"));

  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a","n":5})");
  EXPECT_EQ(fixture.generation.sequences.size(), 5U);
}

TEST(Completions, SendsUsageOnlyWhenAskedFor) {
  GatewayFixture fixture;
  const Reply reply =
      Ask(fixture, kCompletions,
          {{"prompt", "a"}, {"stream", true}, {"stream_options", {{"include_usage", true}}}},
          [](FakeGeneration& generation) { generation.Finish(0, FinishReason::kLength, {'x'}); });
  const auto events = reply.events();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(json::parse(events[0])["usage"], nullptr);
  EXPECT_EQ(json::parse(events[1])["choices"], json::array());
  EXPECT_EQ(json::parse(events[1])["usage"]["total_tokens"], 2);
}

TEST(Completions, CountEachPromptsCachedTokensOnce) {
  GatewayFixture fixture;
  for (const bool stream : {false, true}) {
    const size_t first = fixture.generation.sequences.size();
    json request = {{"prompt", {"abcd", "efgh"}}, {"n", 2}, {"stream", stream}};
    if (stream) request["stream_options"] = {{"include_usage", true}};
    const Reply reply = Ask(fixture, kCompletions, request, [&](FakeGeneration& generation) {
      // What the second answers find is the first ones' doing.
      const int64_t cached[] = {3, 4, 2, 4};
      for (size_t i = 0; i < 4; ++i) {
        generation.sequences[first + i].cached_tokens = cached[i];
        generation.Deliver(first + i, "x");
        generation.Finish(first + i, FinishReason::kLength, {'y'});
      }
    });
    const auto events = reply.events();
    const json usage =
        stream ? json::parse(events.at(events.size() - 2))["usage"] : reply.json()["usage"];
    EXPECT_EQ(usage["prompt_tokens"], 8);
    EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 5);
  }
}

TEST(Completions, SayTheUsageSoFarInEachChunkWhenAskedTo) {
  GatewayFixture fixture;
  const json options = {{"continuous_usage_stats", true}};
  const Reply reply = Ask(fixture, kChat,
                          {{"messages", {{{"role", "user"}, {"content", "u"}}}},
                           {"stream", true},
                           {"stream_options", options}},
                          [](FakeGeneration& generation) {
                            generation.Deliver(0, "ab");
                            generation.Finish(0, FinishReason::kLength, {'c'});
                          });
  std::vector<int> counts;
  for (const std::string& event : reply.events()) {
    if (event != "[DONE]") counts.push_back(json::parse(event)["usage"]["completion_tokens"]);
  }
  EXPECT_THAT(counts, ElementsAre(2, 2, 3, 3)) << "role, ab, c, reason";
}

TEST(Completions, KeepsASilentStreamAlive) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  fixture.Advance(9'500);
  EXPECT_EQ(client->received(), "");
  fixture.Advance(1'000);
  EXPECT_THAT(client->received(), HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(client->received(), HasSubstr(": keep-alive\n\n"));
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(JoinChunks(reply)[0]["text"], "x");
}

TEST(Chat, AnswersInOpenAisShape) {
  GatewayFixture fixture;
  const json request = {
      {"messages",
       {{{"role", "system"}, {"content", "s"}},
        {{"role", "user"},
         {"content", {{{"type", "text"}, {"text", "u"}}, {{"type", "text"}, {"text", "<eos>"}}}}}}},
      {"logprobs", true},
      {"top_logprobs", 1},
      {"max_completion_tokens", 3}};
  const Reply reply = Ask(fixture, kChat, request, [](FakeGeneration& generation) {
    generation.Finish(0, FinishReason::kStop, {'o', 0xC3, kEos});
  });
  const std::string prompt = "system:suser:u<eos>>";
  EXPECT_EQ(fixture.generation.sequences[0].prompt,
            std::vector<int32_t>(prompt.begin(), prompt.end()))
      << "special-token text in content is plain text";
  const json choice = reply.json()["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "o\ufffd");
  const json& content = choice["logprobs"]["content"];
  ASSERT_EQ(content.size(), 3U);
  EXPECT_EQ(content[1]["token"], "\ufffd");
  EXPECT_EQ(content[1]["bytes"], json({0xC3}));
  EXPECT_EQ(content[1]["token_id"], 0xC3);
  EXPECT_EQ(content[0]["top_logprobs"][0],
            json::parse(R"({"token":"a","logprob":-0.3,"bytes":[97],"token_id":97})"));
  EXPECT_EQ(reply.json()["object"], "chat.completion");
}

TEST(Chat, StreamsRoleThenContentThenReason) {
  GatewayFixture fixture;
  const Reply reply =
      Ask(fixture, kChat, {{"messages", {{{"role", "user"}, {"content", "u"}}}}, {"stream", true}},
          [](FakeGeneration& generation) {
            generation.Deliver(0, "a\xC3");
            generation.Deliver(0, "\xA9");
            generation.Finish(0, FinishReason::kStop, {kEos});
          });
  std::vector<json> choices;
  for (const std::string& event : reply.events()) {
    if (event == "[DONE]") continue;
    EXPECT_EQ(json::parse(event)["object"], "chat.completion.chunk");
    EXPECT_FALSE(json::parse(event).contains("usage"));
    choices.push_back(json::parse(event)["choices"][0]);
  }
  ASSERT_EQ(choices.size(), 4U);
  EXPECT_EQ(choices[0]["delta"], json({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(choices[1]["delta"], json({{"content", "a"}}));
  EXPECT_EQ(choices[2]["delta"], json({{"content", "\u00e9"}}));
  EXPECT_EQ(choices[2]["finish_reason"], nullptr);
  EXPECT_EQ(choices[3]["delta"], json::object());
  EXPECT_EQ(choices[3]["finish_reason"], "stop");
}

TEST(Chat, PassesTheTemplatesComplaintOn) {
  GatewayFixture fixture;
  const Reply reply =
      fixture.Post(kChat, R"({"messages":[{"role":"user","content":"forbidden"}]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["param"], "messages");
  EXPECT_THAT(reply.body, HasSubstr("roles must alternate"));
}

}  // namespace
}  // namespace shoal::gateway
