// What upstream programs are promised: client.h over real sockets, secrets, error translation.

#include "transport/rpc/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/transport/rpc/server_thread.h"
#include "transport/base/error.h"
#include "transport/rpc/convert/error_map.h"
#include "transport/rpc/secret.h"

namespace shoal::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

SequenceUpdate Update(std::vector<int32_t> tokens, FinishReason finish = FinishReason::kNone) {
  SequenceUpdate update;
  update.tokens = std::move(tokens);
  update.finish = finish;
  return update;
}

// Once a request has come in, runs `answer` on the server's loop.
std::thread Answer(ServerThread& server, std::function<void(GenerationSink&)> answer) {
  return std::thread([&server, answer = std::move(answer)] {
    EXPECT_TRUE(server.Wait([](const auto& heard) { return !heard.requests.empty(); }));
    server.Run([&](ClusterServer&) { answer(server.sink()); });
  });
}

template <typename Body>
std::optional<Error> ErrorOf(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

TEST(Client, StreamsAGeneration) {
  ServerThread server;
  server.AnswerGenerate({1, 5, 42, {}});
  std::thread answer = Answer(server, [](GenerationSink& sink) {
    sink.Tokens(Update({1, 2}), "ab");
    sink.Tokens(Update({3}), std::string("c\0", 2));  // A NUL is a character like others.
    sink.Finish(Update({4}, FinishReason::kLength), "d");
  });
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{7, 8, 9};
  request.params.tokens_max = 4;
  std::vector<int32_t> tokens;
  std::string text;
  const GenerateResult result = client.Generate(request, [&](const GenerateChunk& chunk) {
    tokens.insert(tokens.end(), chunk.update.tokens.begin(), chunk.update.tokens.end());
    text += chunk.text;
    return true;
  });
  answer.join();
  EXPECT_EQ(tokens, (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(text, std::string("abc\0d", 5));
  EXPECT_EQ(result.finish, FinishReason::kLength);
  EXPECT_EQ(result.prompt_tokens, 5);
  EXPECT_EQ(result.completion_tokens, 4);
  EXPECT_EQ(result.seed, 42u);
  EXPECT_EQ(result.reconnects, 0);
  request.resumable = true;  // Which the client asks for itself.
  EXPECT_TRUE(server.Wait([&](const auto& heard) { return heard.requests[0] == request; }));
}

// More log-probabilities, and more text, than a connection takes as one message.
TEST(Client, StreamsMoreThanAMessageHolds) {
  constexpr size_t kPositions = 420'000;
  std::string long_text;
  while (long_text.size() < 1'000'000) long_text += "a\u20ac\u00e9";
  ServerThread server;
  std::thread answer = Answer(server, [&](GenerationSink& sink) {
    SequenceUpdate update = Update({1, 2});
    update.prompt_logprobs.resize(
        kPositions, {.logprob = -0.5F, .top = std::vector<std::pair<int32_t, float>>(20)});
    sink.Tokens(update, long_text);
    sink.Finish(Update({3}, FinishReason::kStop), "end");
  });
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{7};
  size_t positions = 0;
  std::vector<int32_t> tokens;
  std::string text;
  const GenerateResult result = client.Generate(request, [&](const GenerateChunk& chunk) {
    EXPECT_TRUE(tokens.empty() || chunk.update.prompt_logprobs.empty());
    positions += chunk.update.prompt_logprobs.size();
    tokens.insert(tokens.end(), chunk.update.tokens.begin(), chunk.update.tokens.end());
    EXPECT_TRUE(chunk.text.empty() || (chunk.text[0] & 0xC0) != 0x80) << "whole characters";
    text += chunk.text;
    return true;
  });
  answer.join();
  EXPECT_EQ(positions, kPositions);
  EXPECT_EQ(tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_TRUE(text == long_text + "end");
  EXPECT_EQ(result.finish, FinishReason::kStop);
}

TEST(Client, RefusesARequestThatNoMessageHolds) {
  ServerThread server;
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>(17'000'000);
  const std::optional<Error> error =
      ErrorOf([&] { client.Generate(request, [](const GenerateChunk&) { return true; }); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), HasSubstr("send a shorter prompt"));
  EXPECT_EQ(client.Models().size(), 1U) << "the connection goes on";
}

TEST(Client, GivesACallAllItsTimeHoweverLongAgoTheLastOneWas) {
  ServerThread server;
  Client client({.address = server.address(), .connect_timeout_ms = 3'000});
  EXPECT_EQ(client.Models().size(), 1U);
  // Its caller does something else meanwhile.
  std::promise<void> never;
  EXPECT_EQ(never.get_future().wait_for(std::chrono::milliseconds(3'100)),
            std::future_status::timeout);
  EXPECT_EQ(client.Models().size(), 1U);
}

TEST(Client, CarriesTextAndChatPrompts) {
  ServerThread server;
  server.AnswerGenerate({.refusal = MakeStreamError(BusyReason::kInvalid, "enough")});
  Client client({.address = server.address(), .resume_timeout_ms = 0});
  GenerateRequest text;
  text.prompt = std::string("Once\0upon", 9);
  GenerateRequest chat;
  ChatMessage caller{.role = "assistant", .content = ""};
  caller.tool_calls = R"([{"function":{}}])";
  caller.reasoning = "";  // Which is not the same as none.
  ChatMessage result{.role = "tool", .content = "3"};
  result.tool_call_id = "c1";
  chat.prompt = Conversation{
      {"system", "Be kind."}, {"user", std::string("Who\0?", 5), "Ada"}, caller, result};
  chat.chat = {.tools = "[]", .variables = "{}", .continues_last = true, .begins_answer = false};
  chat.seed_given = true;
  chat.model = "toy";
  GenerateRequest nothing;
  nothing.prompt = "";  // A text all the same: that of the BOS token alone.
  for (const GenerateRequest& request : {text, chat, nothing}) {
    EXPECT_TRUE(ErrorOf([&] { client.Generate(request, nullptr); }).has_value());
  }
  EXPECT_TRUE(server.Wait([&](const auto& heard) {
    return heard.requests[0] == text && heard.requests[1] == chat && heard.requests[2] == nothing;
  }));
}

TEST(Client, CancelsByReturningFalse) {
  ServerThread server;
  std::thread answer = Answer(server, [](GenerationSink& sink) { sink.Tokens(Update({1}), ""); });
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{1};
  const GenerateResult result =
      client.Generate(request, [](const GenerateChunk&) { return false; });
  answer.join();
  EXPECT_EQ(result.finish, FinishReason::kCancelled);
  client.Models();  // The release of the generation goes out with the next message at the latest.
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.cancels.size() == 1; }));
}

TEST(Client, CancelsWhatRunsWhenItsConnectionGoes) {
  ServerThread server;
  {
    std::thread answer = Answer(server, [](GenerationSink& sink) { sink.Tokens(Update({1}), ""); });
    Client client({.address = server.address()});
    GenerateRequest request;
    request.prompt = std::vector<int32_t>{1};
    const auto error = ErrorOf([&] {
      client.Generate(
          request, [](const GenerateChunk&) { return true; }, /*idle_timeout_ms=*/500);
    });
    answer.join();
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kDeadlineExceeded);
  }
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.cancels.size() == 1; }));
}

// What a client has heard.
struct Heard {
  std::vector<int32_t> tokens;
  size_t prompt_logprobs = 0;
  std::string text;

  std::function<bool(const GenerateChunk&)> Take() {
    return [this](const GenerateChunk& chunk) {
      tokens.insert(tokens.end(), chunk.update.tokens.begin(), chunk.update.tokens.end());
      prompt_logprobs += chunk.update.prompt_logprobs.size();
      text += chunk.text;
      return true;
    };
  }
};

// A generation of a client on a thread of its own.
class Generating {
 public:
  explicit Generating(const ClientOptions& options)
      : thread_([this, options] {
          try {
            Client client(options);
            GenerateRequest request;
            request.prompt = "a prompt";
            result_ = client.Generate(request, [this](const GenerateChunk& chunk) {
              const bool go_on = heard_.Take()(chunk);
              if (!std::exchange(has_some_, true)) some_.set_value();
              return go_on;
            });
          } catch (const Error& error) {
            error_ = error;
          }
        }) {}
  ~Generating() { Join(); }

  void WaitForTheFirstChunk() { some_.get_future().get(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  // After Join:
  const Heard& heard() const { return heard_; }
  const GenerateResult& result() const { return result_; }
  const std::optional<Error>& error() const { return error_; }

 private:
  Heard heard_;
  GenerateResult result_;
  std::optional<Error> error_;
  bool has_some_ = false;
  std::promise<void> some_;
  std::thread thread_;  // Last: it uses all of the above.
};

// Says the first tokens of the generation that came in, and dies once they are heard.
void LiveAndDie(std::optional<ServerThread>& server, Generating& generating) {
  EXPECT_TRUE(server->Wait([](const auto& heard) { return !heard.requests.empty(); }));
  server->Run([&](ClusterServer&) {
    SequenceUpdate update = Update({1, 2});
    update.prompt_logprobs.resize(4);
    server->sink().Tokens(update, "ab");
  });
  generating.WaitForTheFirstChunk();
  server.reset();
}

TEST(Client, GoesOnWhenTheCoordinatorDiesAndComesBack) {
  std::optional<ServerThread> server(std::in_place);
  const uint16_t port = server->port();
  server->AnswerGenerate({1, 5, 42, {}, "cursor"});
  Generating generating({.address = server->address()});
  LiveAndDie(server, generating);

  server.emplace(ClusterServerOptions{.port = port},
                 GenerateReply{.refusal = MakeStreamError(BusyReason::kNoGroup, "not yet")});
  EXPECT_TRUE(server->Wait([](const auto& heard) { return heard.requests.size() >= 2; }));
  server->AnswerGenerate({1, 5, 42, {}, "cursor", true});
  size_t refused_count = 0;
  EXPECT_TRUE(server->Wait([&](const auto& heard) {
    refused_count = heard.requests.size();
    return true;
  }));
  EXPECT_TRUE(
      server->Wait([&](const auto& heard) { return heard.requests.size() > refused_count; }));
  server->Run([&](ClusterServer&) {
    SequenceUpdate end = Update({3}, FinishReason::kLength);
    end.resumes = 6;
    server->sink().Finish(end, "c");
  });
  generating.Join();
  ASSERT_FALSE(generating.error().has_value()) << generating.error()->what();
  EXPECT_EQ(generating.heard().tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(generating.heard().text, "abc");
  EXPECT_EQ(generating.heard().prompt_logprobs, 4U);
  EXPECT_EQ(generating.result().completion_tokens, 3);
  EXPECT_EQ(generating.result().reconnects, 1);
  EXPECT_EQ(generating.result().resumes, 6);
  EXPECT_TRUE(generating.result().recomputed);
  EXPECT_TRUE(server->Wait([](const auto& heard) {
    const GenerateRequest& request = heard.requests.back();
    return request.resumable && request.cursor == "cursor" && request.tokens_taken == 2 &&
           request.prompt_logprobs_taken == 4;
  }));
}

TEST(Client, GoesOnWhenTheCoordinatorStops) {
  ServerThread server({}, {1, 5, 42, {}, "cursor"});
  Generating generating({.address = server.address()});
  for (size_t count : {1U, 2U}) {
    EXPECT_TRUE(server.Wait([&](const auto& heard) { return heard.requests.size() == count; }));
    server.Run([&](ClusterServer&) {
      if (count == 2) return server.sink().Finish(Update({2}, FinishReason::kStop), "b");
      server.sink().Tokens(Update({1}), "a");
      server.sink().Fail(MakeStreamError(BusyReason::kDraining, "this coordinator is stopping"));
    });
  }
  generating.Join();
  ASSERT_FALSE(generating.error().has_value()) << generating.error()->what();
  EXPECT_EQ(generating.heard().text, "ab");
  EXPECT_EQ(generating.result().reconnects, 1);
}

// Or the two would take it from each other for ever.
TEST(Client, GivesUpWhenAnotherTakesItsGeneration) {
  ServerThread server({}, {1, 5, 42, {}, "cursor"});
  Generating generating({.address = server.address()});
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.requests.size() == 1; }));
  server.Run([&](ClusterServer&) {
    server.sink().Fail(MakeStreamError(BusyReason::kStreamTaken, "another goes on with it"));
  });
  generating.Join();
  ASSERT_TRUE(generating.error().has_value());
  EXPECT_EQ(generating.error()->code(), ErrorCode::kPeerFailed);
  EXPECT_THAT(generating.error()->what(), HasSubstr("stream_taken: another goes on with it"));
  EXPECT_TRUE(server.Wait(
      [](const auto& heard) { return heard.requests.size() == 1 && heard.cancels.empty(); }));
}

TEST(Client, GivesUpWhenNoCoordinatorComesBack) {
  std::optional<ServerThread> server(std::in_place);
  server->AnswerGenerate({1, 5, 42, {}, "cursor"});
  Generating generating({.address = server->address(), .resume_timeout_ms = 200});
  LiveAndDie(server, generating);
  generating.Join();
  ASSERT_TRUE(generating.error().has_value());
  EXPECT_EQ(generating.error()->code(), ErrorCode::kPeerLost);
  EXPECT_THAT(generating.error()->what(), HasSubstr("could not be made again for 200 ms"));
  EXPECT_EQ(generating.heard().text, "ab");
}

TEST(Client, GivesUpAtOnceWhereNothingCanBeGoneOnWith) {
  for (const bool has_cursor : {false, true}) {
    std::optional<ServerThread> server(std::in_place);
    server->AnswerGenerate({1, 5, 42, {}, has_cursor ? "cursor" : ""});
    Generating generating({.address = server->address(), .resume_timeout_ms = INT32_MAX});
    const uint16_t port = server->port();
    LiveAndDie(server, generating);
    if (has_cursor) {
      const StreamError too_late = MakeStreamError(BusyReason::kCursorExpired, "too late");
      server.emplace(ClusterServerOptions{.port = port}, GenerateReply{.refusal = too_late});
    }
    generating.Join();
    ASSERT_TRUE(generating.error().has_value());
    EXPECT_EQ(generating.error()->code(),
              has_cursor ? ErrorCode::kPeerFailed : ErrorCode::kPeerLost);
    EXPECT_THAT(generating.error()->what(),
                HasSubstr(has_cursor ? "cursor_expired: too late" : "closed the connection"));
  }
}

// It does not mean to come back, though the server could not tell by the connection.
TEST(Client, CancelsAResumableGenerationInSoManyWords) {
  ServerThread server;
  server.AnswerGenerate({1, 5, 42, {}, "cursor"});
  std::thread answer = Answer(server, [](GenerationSink& sink) { sink.Tokens(Update({1}), ""); });
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{1};
  client.Generate(request, [](const GenerateChunk&) { return false; });
  answer.join();
  client.Models();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.cancels.size() == 1; }));
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.readers_gone.empty(); }));
}

TEST(Client, LeavesAGenerationWhoseReaderIsGone) {
  ServerThread server;
  std::thread answer = Answer(server, [](GenerationSink& sink) { sink.Tokens(Update({1}), ""); });
  {
    Client client({.address = server.address()});
    GenerateRequest request;
    request.prompt = std::vector<int32_t>{1};
    EXPECT_THROW(
        client.Generate(request, [](const GenerateChunk&) -> bool { throw std::logic_error("x"); }),
        std::logic_error);
  }
  answer.join();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.readers_gone.size() == 1; }));
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.cancels.empty(); }));
}

TEST(Client, SaysThatAGroupWasLostOnTheWay) {
  ServerThread server;
  std::thread answer = Answer(server, [](GenerationSink& sink) {
    sink.Tokens(Update({1}), "");
    sink.Fail(MakeStreamError(BusyReason::kGroupLost, "group 0 was lost"));
  });
  Client client({.address = server.address()});
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{1};
  int64_t tokens = 0;
  const auto error = ErrorOf([&] {
    client.Generate(request, [&](const GenerateChunk& chunk) {
      tokens += static_cast<int64_t>(chunk.update.tokens.size());
      return true;
    });
  });
  answer.join();
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kPeerFailed);
  EXPECT_EQ(tokens, 1) << "what came before the loss was handed on";
}

// There are two keys, of tenants of the same names.
std::optional<Caller> FindTestCaller(std::string_view key) {
  if (key != "second" && key != "key") return std::nullopt;
  return Caller{.tenant = std::string(key), .owner = "x"};
}

TEST(Client, NeedsAKnownKey) {
  ServerThread server({.find_caller = FindTestCaller});
  const auto error = ErrorOf([&] { Client({.address = server.address(), .api_key = "third"}); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kCannotJoin);
  EXPECT_THAT(error->what(), HasSubstr("API key"));
  Client client({.address = server.address(), .api_key = "second"});
  EXPECT_THAT(client.Models(), SizeIs(1));
}

TEST(Client, TellsWhoseItsRequestsAreByItsKeyAlone) {
  ServerThread server({.find_caller = FindTestCaller},
                      {.refusal = {BusyReason::kQuotaExceeded, "too much", 700, 20}});
  Client client({.address = server.address(), .api_key = "key"});
  GenerateRequest request;
  request.prompt = "hi";
  request.terms = {.name = "mine",
                   .tenant = "another",
                   .service_class = ServiceClass::kSheddable,
                   .deadline_ms = 500,
                   .attempt = 2,
                   .session = "s"};
  const auto error =
      ErrorOf([&] { client.Generate(request, [](const GenerateChunk&) { return true; }); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kOverloaded);
  EXPECT_THAT(error->what(), HasSubstr("quota_exceeded"));
  ASSERT_TRUE(
      server.Wait([](const ServerThread::Heard& heard) { return !heard.requests.empty(); }));
  server.Wait([&](const ServerThread::Heard& heard) {
    RequestTerms expected = request.terms;
    expected.tenant.clear();
    EXPECT_EQ(heard.requests[0].terms, expected);
    EXPECT_EQ(heard.callers[0], FindTestCaller("key"));
    return true;
  });
}

TEST(Client, DrainsGroupsOnlyWithTheirToken) {
  const ServerThread server({.group_token = "secret", .find_caller = FindTestCaller});
  Client client({.address = server.address(), .api_key = "key"});
  for (const char* token : {"", "secreT", "key"}) {
    const auto error = ErrorOf([&] { client.Drain(2, /*restart=*/true, token); });
    ASSERT_TRUE(error.has_value()) << token;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), HasSubstr("--group-token-file"));
  }
  client.Drain(2, /*restart=*/true, "secret");
}

TEST(Client, ReadsModelsAndStatus) {
  const ServerThread server;
  Client client({.address = server.address()});
  const ServedModel model = client.Models().at(0);
  EXPECT_EQ(model.name, "toy");
  EXPECT_EQ(model.kv_cache_tokens, 256);
  EXPECT_EQ(model.groups_ready, 2);
  EXPECT_EQ(model.requests_waiting, 3);
  EXPECT_EQ(model.canary_digest, "ca4a");
  const RegionStatus status = client.Status();
  EXPECT_THAT(status.models, ElementsAre(model));
  ASSERT_THAT(status.groups, SizeIs(1));
  EXPECT_EQ(status.groups[0].epoch, 9u);
  EXPECT_EQ(status.groups[0].model_name, "toy");
  EXPECT_EQ(status.groups[0].numerics_id, "00ff");
  EXPECT_EQ(status.groups[0].stats, (SchedulerStats{1, 2, 3, 4, 5}));
  EXPECT_THAT(status.groups[0].ranks, SizeIs(2));
  EXPECT_EQ(status.group_losses_total, 9);
}

TEST(Secret, IsEqualOnlyToItself) {
  EXPECT_TRUE(SecretsEqual("", ""));
  EXPECT_TRUE(SecretsEqual("abc", "abc"));
  EXPECT_FALSE(SecretsEqual("abc", "abd"));
  EXPECT_FALSE(SecretsEqual("abc", "ab"));
  EXPECT_FALSE(SecretsEqual("ab", "abc"));
  EXPECT_FALSE(SecretsEqual("abab", "ab"));
  EXPECT_FALSE(SecretsEqual("", "a"));
  EXPECT_FALSE(SecretsEqual("a", ""));
}

TEST(Secret, FilesWithoutAKeyAreRefused) {
  const std::string path = ::testing::TempDir() + "rpc_keys.txt";
  const auto write = [&](const std::string& content) { std::ofstream(path) << content; };
  write("# comment\n\n  one  \r\ntwo\n");
  EXPECT_EQ(ReadKeysFile(path), (std::vector<std::string>{"one", "two"}));
  EXPECT_THAT(ErrorOf([&] { ReadSecretFile(path); })->what(), HasSubstr("found 2"));
  write("# nothing\n");
  EXPECT_EQ(ErrorOf([&] { ReadKeysFile(path); })->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(ErrorOf([&] { ReadKeysFile("/nowhere/keys"); })->what(), HasSubstr("/nowhere/keys"));
}

TEST(ErrorMap, KeepsWhatTheCallerMayDo) {
  const auto there_and_back = [](ErrorCode code) { return FromKj(ToKj(Error(code, "x"))).code(); };
  EXPECT_EQ(there_and_back(ErrorCode::kOverloaded), ErrorCode::kOverloaded);
  EXPECT_EQ(there_and_back(ErrorCode::kPeerLost), ErrorCode::kPeerLost);
  EXPECT_EQ(there_and_back(ErrorCode::kInvalidArgument), ErrorCode::kPeerFailed);
  EXPECT_EQ(there_and_back(ErrorCode::kDeadlineExceeded), ErrorCode::kOverloaded);
}

}  // namespace
}  // namespace shoal::rpc
