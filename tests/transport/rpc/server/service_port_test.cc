// What upstream programs may ask on the RPC port, by the key that they have shown.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "tests/transport/rpc/server_thread.h"
#include "transport/base/error.h"
#include "transport/rpc/client.h"

namespace shoal::rpc {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

template <typename Action>
std::optional<Error> ErrorOf(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

std::optional<Caller> FindTenant(std::string_view key) {
  return Caller{.tenant = std::string(key), .owner = "x"};
}

TEST(ServicePort, DrainsNothingForAnApiKeyAlone) {
  const ServerThread server({.find_caller = [](std::string_view key) -> std::optional<Caller> {
    if (key == "operator") return Caller{.owner = "operator", .is_operator = true};
    return Caller{.tenant = key == "default" ? "" : "t", .owner = "x"};
  }});
  for (const char* key : {"tenant", "default"}) {
    Client client({.address = server.address(), .api_key = key});
    const auto error = ErrorOf([&] { client.Drain(2, /*restart=*/true, ""); });
    ASSERT_TRUE(error.has_value()) << key;
    EXPECT_THAT(error->what(), HasSubstr("an API key is not enough to drain a group")) << key;
  }
  Client client({.address = server.address(), .api_key = "operator"});
  client.Drain(2, /*restart=*/true, "");
}

TEST(ServicePort, DrainsWithoutATokenWhereNothingIsAskedFor) {
  const ServerThread server;
  Client client({.address = server.address()});
  client.Drain(2, /*restart=*/true, "");
}

TEST(ServicePort, ShowsAKeyOnlyItsOwnRecords) {
  ServerThread server({.find_caller = FindTenant});
  Client({.address = server.address(), .api_key = "key"}).Records({.tenant = "another"});
  server.Wait([](const ServerThread::Heard& heard) {
    EXPECT_THAT(heard.record_queries, SizeIs(1));
    EXPECT_EQ(heard.record_queries.at(0).tenant, "key");
    return true;
  });
}

TEST(ServicePort, LetsAProgramInNoLongerThanItsKeyIsKnown) {
  std::atomic<bool> known = true;
  ServerThread server({.find_caller = [&](std::string_view) -> std::optional<Caller> {
    if (!known) return std::nullopt;
    return Caller{.tenant = "t", .owner = "x"};
  }});
  Client client({.address = server.address(), .api_key = "key"});
  EXPECT_THAT(client.Models(), SizeIs(1));
  known = false;
  GenerateRequest request;
  request.prompt = "hi";
  const std::function<void()> calls[] = {
      [&] { client.Models(); }, [&] { client.Status(); }, [&] { client.Records({}); },
      [&] { client.Drain(2, true, ""); },
      [&] { client.Generate(request, [](const GenerateChunk&) { return true; }); }};
  for (const auto& call : calls) {
    const auto error = ErrorOf(call);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kPeerFailed);
    EXPECT_THAT(error->what(), HasSubstr("the API key of this connection is not known any more"));
  }
  server.Wait([](const ServerThread::Heard& heard) {
    EXPECT_TRUE(heard.requests.empty());
    EXPECT_TRUE(heard.record_queries.empty());
    return true;
  });
}

TEST(ServicePort, DropsAGenerationWhoseReaderTakesNothing) {
  ServerThread server({.sink_timeout_ms = 50});
  Client client({.address = server.address()});
  std::thread generation([&] {
    ASSERT_TRUE(server.Wait([](const ServerThread::Heard& heard) { return heard.taken == 1; }));
    server.Run([&](ClusterServer&) {
      SequenceUpdate update;
      update.tokens = {1};
      const std::string text(1 << 20, 'x');  // More than a connection holds.
      for (int i = 0; i < 64; ++i) server.sink().Tokens(update, text);
    });
  });
  GenerateRequest request;
  request.prompt = "a";
  bool dropped = false;
  const auto error = ErrorOf([&] {
    client.Generate(request, [&](const GenerateChunk&) {
      dropped = dropped || server.Wait([](const ServerThread::Heard& heard) {
        return heard.readers_gone.size() == 1;
      });
      return true;
    });
  });
  EXPECT_TRUE(dropped);
  ASSERT_TRUE(error.has_value()) << "it is told, once it reads";
  EXPECT_THAT(error->what(), HasSubstr("nothing of it was taken for 50 ms"));
  generation.join();
}

TEST(ServicePort, GivesTheConnectionThatIsIdleLongestToTheNext) {
  ServerThread server({.connections_max = 3});
  Client longest({.address = server.address()});
  Client used({.address = server.address()});
  used.Models();
  Client generating({.address = server.address()});
  std::thread generation([&] {
    GenerateRequest request;
    request.prompt = "a";
    EXPECT_THROW(generating.Generate(request, [](const GenerateChunk&) { return true; }), Error);
  });
  ASSERT_TRUE(server.Wait([](const ServerThread::Heard& heard) { return heard.taken == 1; }));
  used.Models();
  Client fourth({.address = server.address()});
  EXPECT_THAT(fourth.Models(), SizeIs(1));
  EXPECT_THROW(longest.Models(), Error) << "it gave its place";
  EXPECT_THAT(used.Models(), SizeIs(1)) << "it was idle for less long";
  server.Run([&](ClusterServer&) {
    server.sink().Fail(MakeStreamError(BusyReason::kInvalid, "the test is over"));
  });
  generation.join();
}

}  // namespace
}  // namespace shoal::rpc
