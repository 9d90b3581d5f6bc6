// Answers that are too long to be made or sent at once: in pieces, at the client's pace, and
// without holding up the event loop.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;

constexpr std::string_view kCompletions = "/v1/completions";
// Of one server-sent event: kPieceBytes and what the estimate of a piece's JSON leaves out.
constexpr size_t kEventBytesMax = 128 * 1024;

// Characters of one to four bytes.
std::string LongText(size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "ab\u00e9c\u20acd\U0001F600";
  return text;
}

std::unique_ptr<GatewayFixture> LongFixture(HttpGatewayOptions options = {}) {
  auto fixture = std::make_unique<GatewayFixture>(std::move(options), /*adds_bos=*/true);
  fixture->generation.served.context_tokens = 10'000'000;
  return fixture;
}

// Lets the other threads work until the answer is whole.
Reply Await(GatewayFixture& fixture, GatewayFixture::Client& client) {
  EXPECT_TRUE(fixture.PollUntil([&] {
    const std::string& received = client.received();
    const bool has_length = received.substr(0, 1'000).find("Content-Length") != std::string::npos;
    return received.ends_with(has_length ? "}" : "\r\n0\r\n\r\n");
  }));
  return client.TakeReply();
}

Reply Ask(GatewayFixture& fixture, const json& request,
          const std::function<void(FakeGeneration&)>& deal) {
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, request.dump());
  EXPECT_TRUE(fixture.PollUntil([&] { return !fixture.generation.sequences.empty(); }));
  deal(fixture.generation);
  return Await(fixture, *client);
}

json EchoRequest(size_t bytes) {
  return {{"prompt", LongText(bytes)}, {"echo", true}, {"logprobs", 20},
          {"max_tokens", 3},           {"seed", 1},    {"return_token_ids", true}};
}

TEST(LongAnswers, StreamAnEchoInEventsOfBoundedSizeThatMakeTheWhole) {
  json request = EchoRequest(4'000);
  std::vector<Reply> replies;
  for (const bool stream : {false, true}) {
    for (const bool in_parts : {false, true}) {
      request["stream"] = stream;
      const auto fixture = LongFixture();
      replies.push_back(Ask(*fixture, request, [&](FakeGeneration& generation) {
        const size_t count = generation.sequences[0].prompt.size();
        for (size_t at = 1; in_parts && at < count; at += 1'000) {
          generation.DeliverPrompt(0, at, std::min(count, at + 1'000));
        }
        generation.Deliver(0, "xy");
        generation.Finish(0, FinishReason::kLength, {'z'});
      }));
      ASSERT_TRUE(replies.back().complete);
      EXPECT_EQ(replies.back().status, 200);
    }
  }
  EXPECT_EQ(replies[0].json(), replies[1].json());
  const json choices = replies[0].json()["choices"];
  EXPECT_EQ(choices[0]["text"], request["prompt"].get<std::string>() + "xyz");
  EXPECT_EQ(choices[0]["logprobs"]["top_logprobs"].size(),
            choices[0]["prompt_token_ids"].size() + 3);
  for (const Reply& reply : {replies[2], replies[3]}) {
    EXPECT_TRUE(JoinChunks(reply) == choices);
    for (const std::string& event : reply.events()) EXPECT_LE(event.size(), kEventBytesMax);
    EXPECT_GT(reply.body.size(), size_t{1} << 20) << "long enough to fill any buffer";
  }
}

TEST(LongAnswers, StreamLongTextAndIdsInEventsOfBoundedSizeToo) {
  json request = {{"prompt", LongText(150'000)},
                  {"echo", true},
                  {"max_tokens", 0},
                  {"return_token_ids", true},
                  {"seed", 1}};
  std::vector<Reply> replies;
  for (const bool stream : {false, true}) {
    request["stream"] = stream;
    const auto fixture = LongFixture();
    auto client = fixture->Connect();
    client->Request("POST", kCompletions, request.dump());
    replies.push_back(Await(*fixture, *client));
  }
  json choices = replies[0].json()["choices"];
  choices[0].erase("logprobs");  // Null, and nothing to join.
  EXPECT_TRUE(JoinChunks(replies[1]) == choices);
  EXPECT_EQ(replies[0].json()["choices"][0]["text"], request["prompt"]);
  EXPECT_EQ(replies[0].json()["choices"][0]["prompt_token_ids"].size(),
            request["prompt"].get<std::string>().size() + 1);
  for (const std::string& event : replies[1].events()) EXPECT_LE(event.size(), kEventBytesMax);
}

TEST(LongAnswers, SayTheirLengthOnlyWhereTheyAreMadeAtOnce) {
  const auto answer = [](const json& request) {
    return Ask(*LongFixture(), request, [](FakeGeneration& generation) {
      generation.Finish(0, FinishReason::kLength, {'z'});
    });
  };
  const Reply brief = answer({{"prompt", "a"}, {"seed", 1}});
  EXPECT_EQ(brief.headers.at("content-length"), std::to_string(brief.body.size()));
  const Reply large = answer(EchoRequest(4'000));
  EXPECT_FALSE(large.headers.contains("content-length"));
  EXPECT_EQ(large.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(large.headers.at("content-type"), "application/json");
  EXPECT_TRUE(large.headers.contains("x-request-id"));
}

// The loop's own thread looks a token up to place it in the echoed text; all that is shown of it
// and its alternatives is looked up by the other one.
TEST(LongAnswers, AreNotFormattedByTheEventLoop) {
  for (const bool stream : {false, true}) {
    const auto fixture = LongFixture();
    const auto loop_thread = std::this_thread::get_id();
    std::atomic<size_t> by_loop = 0;
    std::atomic<size_t> by_others = 0;
    fixture->tokenizer.on_token_bytes = [&] {
      ++(std::this_thread::get_id() == loop_thread ? by_loop : by_others);
    };
    json request = EchoRequest(4'000);
    request["stream"] = stream;
    size_t tokens = 0;
    ASSERT_TRUE(Ask(*fixture, request, [&](FakeGeneration& generation) {
                  tokens = generation.sequences[0].prompt.size();
                  generation.Finish(0, FinishReason::kLength, {'z'});
                }).complete);
    EXPECT_LE(by_loop, tokens + 1'000) << "the last events may be short ones";
    EXPECT_GE(by_others + by_loop, 22 * tokens);
  }
}

// What is made is bounded by what the client takes, not by what there is.
TEST(LongAnswers, WaitForAClientThatDoesNotReadWithoutBeingMade) {
  for (const bool stream : {false, true}) {
    HttpGatewayOptions options;
    options.limits.stream_bytes_max = 10'000;
    const auto fixture = LongFixture(std::move(options));
    std::atomic<size_t> looked_up = 0;
    auto client = fixture->Connect(/*reading=*/false);
    json request = EchoRequest(4'000);
    request["return_token_ids"] = false;
    request["stream"] = stream;
    client->Request("POST", kCompletions, request.dump());
    ASSERT_TRUE(fixture->PollUntil([&] { return !fixture->generation.sequences.empty(); }));
    const size_t tokens = fixture->generation.sequences[0].prompt.size();
    fixture->tokenizer.on_token_bytes = [&] { ++looked_up; };
    fixture->generation.Deliver(0, "x");
    fixture->generation.Finish(0, FinishReason::kLength, {'z'});
    const size_t placed = tokens + 2;  // While tokens came, see above.
    ASSERT_TRUE(fixture->PollUntil([&] { return looked_up > placed; }));
    for (int i = 0; i < 1'000; ++i) {
      std::this_thread::yield();
      fixture->Poll();
    }
    EXPECT_LT(looked_up, placed + 22 * tokens / 4);
    fixture->Advance(20'000);
    EXPECT_EQ(fixture->gateway->connection_count(), 1U);
    client->Read();
    const Reply reply = Await(*fixture, *client);
    EXPECT_TRUE(reply.complete);
    const json choices = stream ? JoinChunks(reply) : reply.json()["choices"];
    EXPECT_EQ(choices[0]["text"], request["prompt"].get<std::string>() + "xz");
  }
}

// Short pieces that a client has not taken are joined, and none is lost.
TEST(LongAnswers, KeepWhatASlowClientHasNotTaken) {
  HttpGatewayOptions options;
  options.limits.stream_bytes_max = 10'000;
  const auto fixture = LongFixture(std::move(options));
  auto client = fixture->Connect(/*reading=*/false);
  client->Request(
      "POST", kCompletions,
      R"({"prompt":"a","n":2,"stream":true,"max_tokens":5000,"return_token_ids":true})");
  std::string expected;
  for (int i = 0; i < 2'000; ++i) {
    const std::string bytes(1, static_cast<char>('a' + i % 26));
    for (const size_t choice : {0, 1}) fixture->generation.Deliver(choice, bytes);
    expected += bytes;
    fixture->Poll();
  }
  EXPECT_FALSE(fixture->generation.sequences[0].cancelled);
  client->Read();
  fixture->generation.Finish(0, FinishReason::kLength, {'!'});
  fixture->generation.Finish(1, FinishReason::kStop, {kEos});
  const Reply reply = Await(*fixture, *client);
  const json choices = JoinChunks(reply);
  EXPECT_EQ(choices[0]["text"], expected + "!");
  EXPECT_EQ(choices[0]["finish_reason"], "length");
  EXPECT_EQ(choices[1]["text"], expected);
  EXPECT_EQ(choices[1]["token_ids"].size(), 2'001U);
  EXPECT_LT(reply.events().size(), 500U) << "what waits is joined";
}

TEST(LongAnswers, AreDroppedWithTheirClient) {
  for (const bool hangs_up : {false, true}) {
    const auto fixture = LongFixture();
    auto client = fixture->Connect(/*reading=*/false);
    client->Request("POST", kCompletions, EchoRequest(4'000).dump());
    ASSERT_TRUE(fixture->PollUntil([&] { return !fixture->generation.sequences.empty(); }));
    fixture->generation.Finish(0, FinishReason::kLength, {'z'});
    if (hangs_up) {
      client->HangUp();
    } else {
      fixture->Advance(40'000);
    }
    EXPECT_TRUE(fixture->PollUntil([&] { return fixture->gateway->connection_count() == 0; }));
  }
}

TEST(LongAnswers, SayTheErrorBehindWhatCameBeforeIt) {
  json request = EchoRequest(4'000);
  request["stream"] = true;
  const auto fixture = LongFixture();
  const Reply reply = Ask(*fixture, request, [](FakeGeneration& generation) {
    generation.Deliver(0, "xy");
    generation.Fail(0, BusyReason::kGroupLost);
  });
  const std::vector<std::string> events = reply.events();
  ASSERT_GE(events.size(), 3U);
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(json::parse(events[events.size() - 2])["error"]["code"], "group_lost");
  std::string text;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    text += json::parse(events[i])["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, request["prompt"].get<std::string>() + "xy");
}

}  // namespace
}  // namespace shoal::gateway
