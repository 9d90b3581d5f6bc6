// What a client does when it is refused: what it is told, when it asks again, when it gives up.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <utility>

#include "tests/transport/rpc/server_thread.h"
#include "transport/base/error.h"
#include "transport/rpc/client.h"

namespace shoal::rpc {
namespace {

using ::testing::HasSubstr;

// What a generation ends with that is refused.
std::optional<BusyError> RefusalOf(Client& client, const GenerateRequest& request) {
  try {
    client.Generate(request, nullptr);
  } catch (const BusyError& error) {
    return error;
  }
  return std::nullopt;
}

GenerateRequest SmallRequest() {
  GenerateRequest request;
  request.prompt = std::vector<int32_t>{1};
  return request;
}

TEST(ClientRetry, SaysThatTheCoordinatorIsBusyAndWhy) {
  ServerThread server;
  StreamError refusal = MakeStreamError(BusyReason::kQueueFull, "3 requests wait");
  refusal.retry_after_ms = 2'500;
  refusal.predicted_wait_ms = 9'000;
  server.AnswerGenerate({.refusal = refusal});
  Client client({.address = server.address(), .retry = {.profile = client::RetryProfile::kNone}});
  const auto error = RefusalOf(client, SmallRequest());
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kOverloaded);
  EXPECT_THAT(error->what(), HasSubstr("queue_full: 3 requests wait"));
  EXPECT_EQ(error->reason, "queue_full");
  EXPECT_EQ(error->retry_after_ms, 2'500);
  EXPECT_EQ(error->predicted_wait_ms, 9'000);
  EXPECT_EQ(error->attempts, 1);
  server.AnswerGenerate({.refusal = MakeStreamError(BusyReason::kDeadlineExceeded, "late")});
  EXPECT_EQ(RefusalOf(client, SmallRequest())->code(), ErrorCode::kDeadlineExceeded);
}

// The server takes each and says nothing more.
TEST(ClientBatch, EndsAtItsDeadlineHoweverManyThereAre) {
  ServerThread server;
  Client client({.address = server.address(), .retry = {.profile = client::RetryProfile::kNone}});
  const std::vector<GenerateRequest> requests(5, SmallRequest());
  const auto items = client.GenerateBatch(requests, {.concurrency = 2, .deadline_ms = 100});
  ASSERT_EQ(items.size(), 5u);
  for (const BatchItem& item : items) {
    ASSERT_TRUE(item.error.has_value());
    EXPECT_EQ(item.error->code(), ErrorCode::kDeadlineExceeded) << item.error->what();
  }
  EXPECT_THAT(items[4].error->what(), HasSubstr("over before this request was asked"));
  ASSERT_TRUE(server.Wait([](const auto& heard) { return heard.requests.size() == 2; }));
  server.Run([](ClusterServer&) {});  // What it heard is settled.
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return heard.requests[0].terms.deadline_ms > 0 && heard.requests[0].terms.deadline_ms <= 100;
  }));
}

TEST(ClientBatch, RefusesWhatCannotBe) {
  ServerThread server;
  Client client({.address = server.address()});
  for (const BatchOptions& wrong : {BatchOptions{.concurrency = 0}, BatchOptions{.concurrency = 65},
                                    BatchOptions{.deadline_ms = -1}}) {
    try {
      client.GenerateBatch({SmallRequest()}, wrong);
      ADD_FAILURE() << "taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr("found"));
    }
  }
  EXPECT_TRUE(client.GenerateBatch({}).empty());
}

StreamError BusyFor(int64_t retry_after_ms) {
  StreamError refusal = MakeStreamError(BusyReason::kQueueFull, "full");
  refusal.retry_after_ms = retry_after_ms;
  return refusal;
}

// Refuses the first requests of a client for 20 ms each, and takes what comes after them.
class RefusingFirst {
 public:
  explicit RefusingFirst(size_t refusals)
      : thread_([this, refusals] {
          EXPECT_TRUE(
              server.Wait([&](const auto& heard) { return heard.requests.size() >= refusals; }));
          server.AnswerGenerate({1, 5, 42, {}});
          EXPECT_TRUE(server.Wait([&](const auto& heard) { return heard.taken == 1; }));
          server.Run([&](ClusterServer&) {
            SequenceUpdate end;
            end.tokens = {1};
            end.finish = FinishReason::kStop;
            server.sink().Finish(end, "a");
          });
        }) {}
  ~RefusingFirst() { thread_.join(); }

  ServerThread server{{}, {.refusal = BusyFor(20)}};

 private:
  std::thread thread_;
};

TEST(ClientRetry, AsksAgainAndNumbersItsAttempts) {
  RefusingFirst refusing(3);
  Client client({.address = refusing.server.address(),
                 .retry = {.attempts_max = 1'000, .base_ms = 1},
                 .retry_draw = [] { return 0.0; }});
  GenerateRequest request = SmallRequest();
  request.terms.attempt = 7;
  request.terms.deadline_ms = 50'000;
  const GenerateResult result = client.Generate(request, [](const GenerateChunk&) { return true; });
  EXPECT_GE(result.attempts, 4);
  EXPECT_TRUE(refusing.server.Wait([&](const auto& heard) {
    for (size_t i = 0; i < heard.requests.size(); ++i) {
      const RequestTerms& terms = heard.requests[i].terms;
      EXPECT_EQ(terms.attempt, 7 + static_cast<int32_t>(i));
      EXPECT_LE(terms.deadline_ms, 50'000 - 20 * static_cast<int64_t>(i)) << "what is left of it";
    }
    return heard.requests.size() == static_cast<size_t>(result.attempts);
  }));
}

TEST(ClientRetry, GivesUpAfterTheAttemptsOfItsProfile) {
  ServerThread server({}, {.refusal = BusyFor(1)});
  Client client({.address = server.address(), .retry = {.attempts_max = 4, .base_ms = 1}});
  const auto error = RefusalOf(client, SmallRequest());
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kOverloaded);
  EXPECT_EQ(error->attempts, 4);
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.requests.size() == 4; }));
  // What no later attempt would make right is asked for once.
  server.AnswerGenerate({.refusal = MakeStreamError(BusyReason::kInvalid, "no")});
  EXPECT_EQ(RefusalOf(client, SmallRequest())->attempts, 1);
  server.AnswerGenerate({.refusal = MakeStreamError(BusyReason::kRequestSuspect, "no")});
  EXPECT_EQ(RefusalOf(client, SmallRequest())->attempts, 1);
}

TEST(ClientRetry, AsksAgainOverANewConnectionIfNothingWasHeard) {
  std::optional<ServerThread> server(std::in_place, ClusterServerOptions{},
                                     GenerateReply{.refusal = BusyFor(0)});
  const uint16_t port = server->port();
  Client client({.address = server->address(), .retry = {.base_ms = 1}});
  EXPECT_EQ(RefusalOf(client, SmallRequest())->reason, "queue_full");
  server.reset();
  server.emplace(ClusterServerOptions{.port = port}, GenerateReply{.refusal = BusyFor(0)});
  EXPECT_EQ(RefusalOf(client, SmallRequest())->reason, "queue_full") << "and no lost connection";
}

TEST(ClientRetry, AsksLessOfACoordinatorThatRefusesMost) {
  ServerThread server({}, {.refusal = BusyFor(1)});
  Client client({.address = server.address(), .retry = {.attempts_max = 1}, .retry_draw = [] {
                   return 0.0;
                 }});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(RefusalOf(client, SmallRequest())->reason, "queue_full");
  EXPECT_EQ(RefusalOf(client, SmallRequest())->reason, "client_throttled");
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.requests.size() == 10; }));
}

}  // namespace
}  // namespace shoal::rpc
