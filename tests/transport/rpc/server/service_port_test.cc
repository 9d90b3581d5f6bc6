// What upstream programs may ask on the RPC port, by the key that they have shown.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

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
  client.Generate(request, [&](const GenerateChunk&) {
    dropped = server.Wait(
        [](const ServerThread::Heard& heard) { return heard.readers_gone.size() == 1; });
    return false;
  });
  EXPECT_TRUE(dropped);
  generation.join();
}

// A client has an event loop of its own, and a thread has only one.
class Program {
 public:
  explicit Program(const ServerThread& server)
      : thread_([this, address = server.address()] { Work(address); }) {
    Models();  // It is connected.
  }
  ~Program() {
    Run(nullptr);
    thread_.join();
  }

  // What goes wrong when it asks for the models.
  std::optional<Error> Models() {
    return Run([](Client& client) { client.Models(); });
  }

 private:
  using Job = std::function<void(Client&)>;

  std::optional<Error> Run(Job job) {
    done_ = {};
    std::future<std::optional<Error>> done = done_.get_future();
    job_.set_value(std::move(job));
    return done.get();
  }

  void Work(const std::string& address) {
    Client client({.address = address});
    for (bool more = true; more;) {
      const Job job = job_.get_future().get();
      job_ = {};
      more = job != nullptr;
      done_.set_value(more ? ErrorOf([&] { job(client); }) : std::nullopt);
    }
  }

  std::promise<Job> job_;
  std::promise<std::optional<Error>> done_;
  std::thread thread_;  // Last: it uses all of the above.
};

TEST(ServicePort, GivesTheConnectionThatIsIdleLongestToTheNext) {
  ServerThread server({.connections_max = 3});
  Program longest(server);
  Program used(server);
  std::thread generation([&] {
    Client client({.address = server.address()});
    GenerateRequest request;
    request.prompt = "a";
    EXPECT_TRUE(
        ErrorOf([&] { client.Generate(request, [](const GenerateChunk&) { return true; }); }));
  });
  ASSERT_TRUE(server.Wait([](const ServerThread::Heard& heard) { return heard.taken == 1; }));
  EXPECT_FALSE(used.Models());
  const Program fourth(server);
  EXPECT_TRUE(longest.Models()) << "it gave its place";
  EXPECT_FALSE(used.Models()) << "it was idle for less long";
  server.Run([&](ClusterServer&) {
    server.sink().Fail(MakeStreamError(BusyReason::kInvalid, "the test is over"));
  });
  generation.join();
}

}  // namespace
}  // namespace shoal::rpc
