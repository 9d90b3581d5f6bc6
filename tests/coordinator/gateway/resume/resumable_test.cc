// Who may go on with an answer, and who is told why not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";

HttpGatewayOptions WithKey() {
  HttpGatewayOptions options;
  options.cursor_key = std::string(kCursorKeyBytes, 'k');
  return options;
}

struct RefusalCase {
  std::string name;
  std::string_view path = kCompletions;
  json body{};  // Merged into the request that the cursor is of.
  std::string code = "cursor_mismatch";
  std::string message{};
};

json PlainRequest() {
  return {{"prompt", "hi"}, {"stream", true}, {"max_tokens", 9}, {"stop", "x"}, {"seed", 3}};
}

// The cursor of the first event.
std::string TakeCursor(GatewayFixture& fixture, const json& body) {
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, body.dump(), "X-Shoal-Resumable: 1\r\n");
  fixture.generation.Deliver(fixture.generation.sequences.size() - 1, "a");
  const std::vector<Reply::Event> events = client->TakeReply().all_events();
  return events.empty() ? "" : events[0].id;
}

TEST(ResumeRefusals, NameWhatIsNotTheSame) {
  GatewayFixture fixture(WithKey());
  fixture.generation.others = {{"other", "22222222222222222222222222222222", 50, 0, 0, 0, "other"}};
  const std::string cursor = TakeCursor(fixture, PlainRequest());
  ASSERT_FALSE(cursor.empty());
  const json chat = {{{"role", "user"}, {"content", "hi"}}};
  const std::vector<RefusalCase> cases = {
      {"prompt", kCompletions, {{"prompt", "ho"}}},
      {"another prompt", kCompletions, {{"prompt", {"hi", "hi"}}}},
      {"n", kCompletions, {{"n", 2}}},
      {"seed", kCompletions, {{"seed", 4}}},
      {"stop", kCompletions, {{"stop", "y"}}},
      {"stop list", kCompletions, {{"stop", {"x", "y"}}}},
      {"max_tokens", kCompletions, {{"max_tokens", 8}}},
      {"temperature", kCompletions, {{"temperature", 0.5}}},
      {"logit_bias", kCompletions, {{"logit_bias", {{"65", 1}}}}},
      {"echo", kCompletions, {{"echo", true}}},
      {"logprobs", kCompletions, {{"logprobs", 0}}},
      {"ids", kCompletions, {{"return_token_ids", true}}},
      {"usage", kCompletions, {{"stream_options", {{"include_usage", true}}}}},
      {"ignore_eos", kCompletions, {{"ignore_eos", true}}},
      {"grammar", kCompletions, {{"regex", "b+"}}},
      {"stop shown", kCompletions, {{"include_stop_str_in_output", true}}},
      {"special", kCompletions, {{"skip_special_tokens", false}}},
      {"stream", kCompletions, {{"stream", false}}, "cursor_mismatch", "no stream"},
      {"model",
       kCompletions,
       {{"model", "other"}, {"prompt", {1}}, {"stop", nullptr}},
       "cursor_mismatch",
       "another model"},
      {"endpoint",
       kChat,
       {{"messages", chat}, {"prompt", nullptr}},
       "cursor_mismatch",
       "/v1/chat/completions"},
  };
  for (const RefusalCase& bad : cases) {
    json body = PlainRequest();
    body.update(bad.body);
    const Reply reply = fixture.Post(bad.path, body.dump(), "Last-Event-ID: " + cursor + "\r\n");
    EXPECT_EQ(reply.status, 400) << bad.name;
    EXPECT_EQ(reply.json()["error"]["code"], bad.code) << bad.name << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(bad.message)) << bad.name;
  }
  EXPECT_EQ(fixture.generation.sequences.size(), 1U) << "one of them was taken";
}

TEST(ResumeRefusals, NameTheNumericsThatAreNotServedAnyMore) {
  GatewayFixture fixture(WithKey());
  const std::string cursor = TakeCursor(fixture, PlainRequest());
  const std::string old =
      std::exchange(fixture.generation.served.numerics_id, "22222222222222222222222222222222");
  const std::string header = "Last-Event-ID: " + cursor + "\r\n";
  const Reply reply = fixture.Post(kCompletions, PlainRequest().dump(), header);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "cursor_mismatch");
  EXPECT_THAT(reply.body, HasSubstr(old));
  // Where both versions are served, the answer goes on with its own.
  ServedModel earlier = fixture.generation.served;
  earlier.numerics_id = old;
  fixture.generation.others = {earlier};
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, PlainRequest().dump(), header);
  EXPECT_EQ(client->TakeReply().status, 0) << "it waits for tokens";
  EXPECT_FALSE(fixture.generation.sequences[0].detached);
}

TEST(ResumeRefusals, TellForgedAndDamagedAndLateCursorsApart) {
  GatewayFixture fixture(WithKey());
  const std::string cursor = TakeCursor(fixture, PlainRequest());
  std::string flipped = cursor;
  flipped[10] = flipped[10] == 'A' ? 'B' : 'A';
  const auto post = [&](GatewayFixture& at, const std::string& headers) {
    return at.Post(kCompletions, PlainRequest().dump(), headers);
  };
  for (const std::string& bad :
       {flipped, cursor.substr(1), cursor + "A", cursor + "=", std::string("x"),
        std::string("\xff\xfe"), std::string(9'000, 'A')}) {
    const Reply reply = post(fixture, "Last-Event-ID: " + bad + "\r\n");
    EXPECT_EQ(reply.status, 400) << bad;
    EXPECT_EQ(reply.json()["error"]["code"], "cursor_invalid") << bad;
  }
  const std::string header = "Last-Event-ID: " + cursor + "\r\n";
  EXPECT_EQ(post(fixture, header + header).json()["error"]["code"], "duplicate_header");
  EXPECT_EQ(post(fixture, "Last-Event-ID: " + std::string(20'000, 'A') + "\r\n").status, 431);
  const Reply odd = post(fixture, "X-Shoal-Resumable: yes\r\n");
  EXPECT_EQ(odd.status, 400);
  EXPECT_THAT(odd.body, HasSubstr("must be 1 or 0"));
}

TEST(ResumeRefusals, KnowNoCursorOfAnotherKey) {
  std::string cursor;
  {
    GatewayFixture fixture(WithKey());
    cursor = TakeCursor(fixture, PlainRequest());
  }
  for (const char letter : {'k', 'x'}) {
    HttpGatewayOptions options = WithKey();
    options.cursor_key[0] = letter;
    GatewayFixture elsewhere(std::move(options));
    auto client = elsewhere.Connect();
    client->Request("POST", kCompletions, PlainRequest().dump(),
                    "Last-Event-ID: " + cursor + "\r\n");
    EXPECT_EQ(client->received().find("cursor_invalid") != std::string::npos, letter == 'x');
  }
}

TEST(ResumeRefusals, BoundWhatIsResumable) {
  GatewayFixture fixture(WithKey());
  json body = PlainRequest();
  body["n"] = 65;
  body["prompt"] = {"a", "b"};
  body["stream_options"] = {{"resumable", true}};
  const Reply reply = fixture.Post(kCompletions, body.dump());
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "too_large");
  EXPECT_THAT(reply.body, HasSubstr("at most 128"));
  body["n"] = 64;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, body.dump());
  EXPECT_EQ(fixture.generation.sequences.size(), 128U);
  EXPECT_TRUE(fixture.generation.sequences[127].resumable);
}

TEST(Resumable, GoesOnWithoutItsClientOnlyIfItCanComeBack) {
  GatewayFixture fixture(WithKey());
  json body = PlainRequest();
  const auto hang_up = [&](const std::string& headers) {
    auto client = fixture.Connect();
    client->Request("POST", kCompletions, body.dump(), headers);
    client->HangUp();
    return fixture.generation.sequences.back();
  };
  EXPECT_TRUE(hang_up("X-Shoal-Resumable: 1\r\n").detached);
  EXPECT_TRUE(hang_up("X-Shoal-Resumable: 0\r\n").cancelled);
  EXPECT_TRUE(hang_up("").cancelled);
  body["stream_options"] = {{"resumable", true}};
  EXPECT_TRUE(hang_up("").detached);
  body.erase("stream_options");
  body["stream"] = false;  // Nobody has a cursor of it.
  EXPECT_TRUE(hang_up("X-Shoal-Resumable: 1\r\n").cancelled);
}

TEST(Resumable, HasCursorsOnlyIfAskedFor) {
  GatewayFixture fixture(WithKey());
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, PlainRequest().dump());
  fixture.generation.Finish(0, FinishReason::kStop, {'a', kEos});
  const Reply reply = client->TakeReply();
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(reply.body.find("id: "), std::string::npos);
}

TEST(Resumable, BelongsToTheNewestConnection) {
  GatewayFixture fixture(WithKey());
  auto first = fixture.Connect();
  first->Request("POST", kCompletions, PlainRequest().dump(), "X-Shoal-Resumable: 1\r\n");
  fixture.generation.Deliver(0, "a");
  const std::vector<Reply::Event> before = first->TakeReply().all_events();
  ASSERT_EQ(before.size(), 1U);
  auto second = fixture.Connect();
  second->Request("POST", kCompletions, PlainRequest().dump(),
                  "Last-Event-ID: " + before[0].id + "\r\n");
  fixture.Poll();
  // The rest of its reply: an error, and no [DONE], for the answer has not ended.
  EXPECT_FALSE(first->ended());
  const Reply taken = first->TakeReply();
  EXPECT_TRUE(taken.complete);
  ASSERT_EQ(taken.all_events().size(), 2U);
  const Reply::Event last = taken.all_events()[1];
  EXPECT_EQ(last.id, "") << "whoever goes on after it goes on after what came before";
  EXPECT_EQ(json::parse(last.data)["error"]["code"], "stream_taken");
  EXPECT_THAT(last.data, HasSubstr("another client goes on"));
  EXPECT_EQ(fixture.generation.sequences.size(), 1U);
  EXPECT_FALSE(fixture.generation.sequences[0].cancelled);
  fixture.generation.Replay(0);
  fixture.generation.Deliver(0, "b");
  fixture.generation.Finish(0, FinishReason::kStop, {kEos});
  const Reply reply = second->TakeReply();
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(JoinChunks(reply)[0]["text"], "b");
}

TEST(Resumable, RefusesAClientThatHadNothingYetWhenAnotherTakesTheAnswer) {
  GatewayFixture fixture(WithKey());
  const std::string header =
      "Last-Event-ID: " + TakeCursor(fixture, PlainRequest()) + "\r\n";  // It hangs up.
  auto first = fixture.Connect();
  first->Request("POST", kCompletions, PlainRequest().dump(), header);
  auto second = fixture.Connect();
  second->Request("POST", kCompletions, PlainRequest().dump(), header);
  const Reply refused = first->TakeReply();
  EXPECT_TRUE(refused.complete);
  EXPECT_EQ(refused.status, 409);
  EXPECT_EQ(refused.json()["error"]["code"], "stream_taken");
  EXPECT_FALSE(refused.headers.contains("retry-after"));
  EXPECT_FALSE(fixture.generation.sequences[0].cancelled);
  fixture.generation.Replay(0);
  fixture.generation.Finish(0, FinishReason::kStop, {'b', kEos});
  const Reply reply = second->TakeReply();
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(JoinChunks(reply)[0]["text"], "b");
}

// As the region says it, where it comes to know first.
TEST(Resumable, EndsWhenItsStreamIsTaken) {
  GatewayFixture fixture(WithKey());
  json body = PlainRequest();
  body["n"] = 2;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, body.dump(), "X-Shoal-Resumable: 1\r\n");
  fixture.generation.Deliver(0, "a");
  fixture.generation.Fail(0, BusyReason::kStreamTaken);
  const Reply reply = client->TakeReply();
  EXPECT_TRUE(reply.complete);
  EXPECT_THAT(reply.body, HasSubstr("stream_taken"));
  EXPECT_EQ(reply.body.find("[DONE]"), std::string::npos);
  for (const FakeGeneration::Sequence& sequence : fixture.generation.sequences) {
    EXPECT_FALSE(sequence.cancelled) << "it is the other client's";
  }
  EXPECT_TRUE(fixture.generation.sequences[1].detached);
}

TEST(Resumable, NamesTheEndOfTheStreamToo) {
  for (const bool shows_usage : {false, true}) {
    GatewayFixture fixture(WithKey());
    json body = PlainRequest();
    body["stream_options"] = {{"include_usage", shows_usage}};
    auto client = fixture.Connect();
    client->Request("POST", kCompletions, body.dump(), "X-Shoal-Resumable: 1\r\n");
    fixture.generation.Finish(0, FinishReason::kStop, {'a', 'b', kEos});
    const std::vector<Reply::Event> events = client->TakeReply().all_events();
    ASSERT_EQ(events.back().data, "[DONE]");
    std::set<std::string> ids;
    for (const Reply::Event& event : events) ids.insert(event.id);
    EXPECT_EQ(ids.size(), events.size()) << "no two events have the same";
    // Whoever has it has all; it is told so again, and nothing is computed.
    const Reply again =
        fixture.Post(kCompletions, body.dump(), "Last-Event-ID: " + events.back().id + "\r\n");
    EXPECT_EQ(again.status, 200);
    EXPECT_EQ(again.events(), std::vector<std::string>{"[DONE]"});
    EXPECT_EQ(again.all_events()[0].id, events.back().id);
    EXPECT_EQ(fixture.generation.sequences.size(), 1U);
  }
}

TEST(ResumeRefusals, KnowNoCursorOfAnotherApiKey) {
  HttpGatewayOptions options = WithKey();
  options.find_caller = [](std::string_view key) -> std::optional<rpc::Caller> {
    if (key != "one" && key != "two") return std::nullopt;
    return rpc::Caller{.owner = std::string(key)};
  };
  GatewayFixture fixture(std::move(options));
  const auto headers = [](const std::string& key, const std::string& more) {
    return "Authorization: Bearer " + key + "\r\n" + more;
  };
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, PlainRequest().dump(),
                  headers("one", "X-Shoal-Resumable: 1\r\n"));
  fixture.generation.Deliver(0, "a");
  const std::string cursor = "Last-Event-ID: " + client->TakeReply().all_events().at(0).id + "\r\n";
  client->HangUp();
  const Reply other = fixture.Post(kCompletions, PlainRequest().dump(), headers("two", cursor));
  EXPECT_EQ(other.status, 400);
  EXPECT_EQ(other.json()["error"]["code"], "cursor_mismatch");
  EXPECT_THAT(other.body, HasSubstr("another API key"));
  EXPECT_TRUE(fixture.generation.sequences[0].detached) << "the refused one took it";
  client = fixture.Connect();
  client->Request("POST", kCompletions, PlainRequest().dump(), headers("one", cursor));
  EXPECT_FALSE(fixture.generation.sequences[0].detached) << client->received();
}

// A key that nobody asked for makes no difference.
TEST(Resumable, LeavesKeysAloneWhereNoneIsAskedFor) {
  GatewayFixture fixture(WithKey());
  const std::string cursor = TakeCursor(fixture, PlainRequest());
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, PlainRequest().dump(),
                  "Authorization: Bearer any\r\nLast-Event-ID: " + cursor + "\r\n");
  EXPECT_FALSE(fixture.generation.sequences[0].detached) << client->received();
}

TEST(Resumable, SaysHowOftenOtherGroupsWentOn) {
  GatewayFixture fixture(WithKey());
  fixture.generation.resumes = 2;
  for (const bool streams : {false, true}) {
    json body = PlainRequest();
    body["n"] = 2;
    body["stream"] = streams;
    const size_t first = fixture.generation.sequences.size();
    auto client = fixture.Connect();
    client->Request("POST", kCompletions, body.dump());
    fixture.generation.Finish(first, FinishReason::kStop, {'a', kEos});
    fixture.generation.Finish(first + 1, FinishReason::kStop, {'b', kEos});
    const Reply reply = client->TakeReply();
    ASSERT_TRUE(reply.complete);
    const auto events = reply.events();
    const json said = streams ? json::parse(events.at(events.size() - 2)) : reply.json();
    const json note = said.value("x_shoal", json());
    EXPECT_EQ(note, json({{"resumes", 4}, {"recomputing", false}}));
  }
}

TEST(Resumable, IsRefusedLikeANewRequestWhileNobodyCanAnswer) {
  GatewayFixture fixture(WithKey());
  const std::string cursor = TakeCursor(fixture, PlainRequest());
  fixture.generation.served.context_tokens = 0;
  const Reply reply =
      fixture.Post(kCompletions, PlainRequest().dump(), "Last-Event-ID: " + cursor + "\r\n");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "no_group");
  EXPECT_TRUE(reply.headers.contains("retry-after"));
}

// The longest answer depends on the groups; what was begun ends where it would have.
TEST(Resumable, KeepsTheRoomThatItWasGranted) {
  GatewayFixture fixture(WithKey());
  fixture.generation.served.kv_cache_tokens = 40;
  json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"stream", true}};
  auto client = fixture.Connect();
  client->Request("POST", kChat, body.dump(), "X-Shoal-Resumable: 1\r\n");
  fixture.generation.Deliver(0, "a");
  const std::string cursor = client->TakeReply().all_events().at(0).id;
  const int64_t granted = fixture.generation.sequences[0].params.tokens_max;
  client->HangUp();
  fixture.generation.Cancel(fixture.generation.sequences[0].stream);
  fixture.generation.sequences.clear();
  fixture.generation.served.kv_cache_tokens = 60;
  client = fixture.Connect();
  client->Request("POST", kChat, body.dump(), "Last-Event-ID: " + cursor + "\r\n");
  ASSERT_EQ(fixture.generation.sequences.size(), 1U) << client->received();
  EXPECT_EQ(fixture.generation.sequences[0].params.tokens_max, granted);
}

}  // namespace
}  // namespace shoal::gateway
