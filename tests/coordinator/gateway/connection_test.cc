// Connections: order, hang-ups, deadlines, slow readers, and the listening socket.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>

#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kCompletions = "/v1/completions";
// A generation's head up to its length.
constexpr char kPost[] =
    "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
constexpr std::string_view kLive = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";

TEST(HttpConnection, ServesRequestsInOrderOnOneConnection) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send(kPost + std::string("Content-Length: 14\r\n\r\n{\"prompt\":\"a\"}") +
               std::string(kLive) + "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client->received(), "") << "the second waits for the first";
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  EXPECT_THAT(client->TakeReply().body, HasSubstr("text_completion"));
  EXPECT_THAT(client->TakeReply().body, HasSubstr("live"));
  EXPECT_THAT(client->TakeReply().body, HasSubstr("ready"));
  EXPECT_FALSE(client->ended());
  client->Request("GET", "/livez");
  EXPECT_EQ(client->TakeReply().status, 200);
}

TEST(HttpConnection, TakesChunkedBodiesAndAsksForThem) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send(kPost + std::string("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client->TakeReply().status, 100);
  client->Send("5\r\n{\"pro\r\n9\r\nmpt\":\"a\"}\r\n0\r\n\r\n");
  EXPECT_EQ(fixture.generation.sequences.size(), 1U);
}

TEST(HttpConnection, AnswersHeadWithoutABody) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send("HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(kLive));
  const Reply head = client->TakeReply(/*to_head=*/true);
  const Reply get = client->TakeReply();
  EXPECT_EQ(head.headers.at("content-length"), get.headers.at("content-length"));
  EXPECT_THAT(get.body, HasSubstr("live"));
}

TEST(HttpConnection, DatesEveryAnswer) {
  GatewayFixture fixture;
  EXPECT_EQ(fixture.Get("/livez").headers.at("date"), "Thu, 01 Jan 1970 00:16:40 GMT");
  EXPECT_EQ(fixture.Get("/nothing").headers.at("date"), "Thu, 01 Jan 1970 00:16:40 GMT");
  EXPECT_EQ(HttpDate(784111777), "Sun, 06 Nov 1994 08:49:37 GMT") << "RFC 9110's own example";
}

TEST(HttpConnection, ClosesWhenAskedAndForHttp10) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("GET", "/livez", "", "Connection: close\r\n");
  EXPECT_EQ(client->TakeReply().headers.at("connection"), "close");
  EXPECT_TRUE(client->ended());
  auto old = fixture.Connect();
  old->Send(
      "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
      "Content-Length: 28\r\n\r\n"
      R"({"prompt":"a","stream":true})");
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  fixture.Poll();
  EXPECT_TRUE(old->ended());
  EXPECT_THAT(old->received(), HasSubstr("data: [DONE]\n\n"));
  EXPECT_THAT(old->received(), ::testing::Not(HasSubstr("chunked")));
}

TEST(HttpConnection, RefusesABodyThatIsTooLargeAndReadsOnUntilTheClientHasSeenIt) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send(kPost + std::string("Content-Length: 5000000\r\n\r\n"));
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.status, 413);
  EXPECT_THAT(reply.json()["error"]["message"].get<std::string>(), HasSubstr("4194304"));
  EXPECT_EQ(reply.headers.at("connection"), "close");
  client->Send(std::string(100'000, 'x'));
  EXPECT_EQ(fixture.gateway->connection_count(), 1U) << "still reading";
  fixture.Advance(3'000);
  EXPECT_EQ(fixture.gateway->connection_count(), 0U);
}

TEST(LargeBodies, AreReadOneByOneBesideTheLoopWhichServesOthers) {
  GatewayFixture fixture;
  fixture.generation.served.context_tokens = 1'000'000;
  std::counting_semaphore<> gate(0);
  std::atomic<int> encoded = 0;
  fixture.tokenizer.on_encode = [&] {
    gate.acquire();
    ++encoded;
  };
  const std::string large = R"({"prompt":")" + std::string(100'000, 'a') + R"("})";
  auto first = fixture.Connect();
  auto second = fixture.Connect();
  auto third = fixture.Connect();
  for (auto* client : {&first, &second, &third}) (*client)->Request("POST", kCompletions, large);
  EXPECT_EQ(fixture.Get("/livez").status, 200) << "while the first is read";
  EXPECT_EQ(fixture.generation.sequences.size(), 0U);
  second->HangUp();
  gate.release(3);
  ASSERT_TRUE(fixture.PollUntil([&] { return fixture.generation.sequences.size() == 2; }));
  EXPECT_EQ(encoded, 2) << "who hung up while waiting is forgotten";
  fixture.generation.Finish(1, FinishReason::kLength, {'x'});
  EXPECT_EQ(third->TakeReply().json()["usage"]["prompt_tokens"], 100'000);
  first->HangUp();
  EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
}

TEST(LargeBodies, AreThoseThatTakeTheLoopMoreThanAMillisecond) {
  GatewayFixture fixture;
  fixture.generation.served.context_tokens = 1'000'000;
  std::atomic<bool> on_loop = false;
  fixture.tokenizer.on_encode = [&, loop = std::this_thread::get_id()] {
    on_loop = std::this_thread::get_id() == loop;
  };
  const auto send = [&](size_t prompt_bytes) {
    const size_t before = fixture.generation.sequences.size();
    auto client = fixture.Connect();
    client->Request("POST", kCompletions,
                    R"({"prompt":")" + std::string(prompt_bytes, '7') + R"("})");
    EXPECT_TRUE(
        fixture.PollUntil([&] { return fixture.generation.sequences.size() == before + 1; }));
  };
  send(1'000);
  EXPECT_TRUE(on_loop);
  for (const size_t prompt_bytes : {2'100, 58'000, 100'000}) {
    send(prompt_bytes);
    EXPECT_FALSE(on_loop) << prompt_bytes;
  }
}

TEST(LargeBodies, DoNotKeepMiddlingOnesWaiting) {
  GatewayFixture fixture;
  fixture.generation.served.context_tokens = 1'000'000;
  std::binary_semaphore started(0);
  std::binary_semaphore gate(0);
  std::atomic<bool> held = false;
  fixture.tokenizer.on_encode = [&] {
    if (held.exchange(true)) return;
    started.release();
    gate.acquire();
  };
  auto large = fixture.Connect();
  large->Request("POST", kCompletions, R"({"prompt":")" + std::string(100'000, 'a') + R"("})");
  started.acquire();
  auto middling = fixture.Connect();
  middling->Request("POST", kCompletions, R"({"prompt":")" + std::string(3'000, 'a') + R"("})");
  EXPECT_TRUE(fixture.PollUntil([&] { return fixture.generation.sequences.size() == 1; }));
  gate.release();
  EXPECT_TRUE(fixture.PollUntil([&] { return fixture.generation.sequences.size() == 2; }));
}

TEST(LargeBodies, AreRefusedLikeSmallOnes) {
  GatewayFixture fixture;
  const std::string padding(100'000, ' ');
  const auto post = [&](const std::string& body) {
    auto client = fixture.Connect();
    client->Request("POST", kCompletions, body + padding);
    Reply reply;
    EXPECT_TRUE(fixture.PollUntil([&] {
      reply = client->TakeReply();
      return reply.complete;
    }));
    return reply;
  };
  EXPECT_EQ(post("{").json()["error"]["code"], "invalid_json");
  EXPECT_EQ(post(R"({"prompt":"a","model":"nobody"})").status, 404);
  const Reply too_long = post(R"({"prompt":")" + std::string(101, 'a') + R"("})");
  EXPECT_EQ(too_long.json()["error"]["prompt_tokens"], 101);
  EXPECT_TRUE(too_long.headers.contains("x-request-id"));
  fixture.generation.refusal = {BusyReason::kQueueFull, "full", 1'000};
  EXPECT_EQ(post(R"({"prompt":"a"})").headers.at("retry-after"), "1");
}

TEST(LargeBodies, MayOutliveTheirGateway) {
  auto fixture = std::make_unique<GatewayFixture>();
  std::binary_semaphore started(0);
  std::binary_semaphore gate(0);
  fixture->tokenizer.on_encode = [&] {
    started.release();
    gate.acquire();
  };
  auto client = fixture->Connect();
  client->Request("POST", kCompletions, R"({"prompt":")" + std::string(100'000, 'a') + R"("})");
  started.acquire();
  gate.release();
  client.reset();
  fixture.reset();
}

TEST(HttpConnection, CancelsWhenTheClientHangsUp) {
  for (const bool stream : {false, true}) {
    GatewayFixture fixture;
    auto client = fixture.Connect();
    client->Request("POST", kCompletions,
                    stream ? R"({"prompt":"a","stream":true,"n":2})" : R"({"prompt":"a","n":2})");
    fixture.generation.Deliver(0, "x");
    fixture.Poll();
    client->HangUp();
    EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
    EXPECT_TRUE(fixture.generation.sequences[1].cancelled);
    EXPECT_EQ(fixture.gateway->connection_count(), 0U);
    EXPECT_THAT(fixture.Get("/metrics").body, HasSubstr("shoal_requests_cancelled_total 1\n"));
  }
}

TEST(HttpConnection, DropsAClientThatTakesNothingForTooLong) {
  GatewayFixture fixture;
  auto client = fixture.Connect(/*reading=*/false);
  client->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  fixture.generation.Deliver(0, "x");
  fixture.Advance(29'000);
  EXPECT_FALSE(fixture.generation.sequences[0].cancelled);
  fixture.Advance(2'000);
  EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
}

TEST(HttpConnection, GivesUpOnRequestsThatDoNotArrive) {
  GatewayFixture fixture;
  auto idle = fixture.Connect();
  auto header = fixture.Connect();
  auto body = fixture.Connect();
  header->Send("GET / HT");
  body->Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
  fixture.Advance(11'000);
  EXPECT_EQ(header->TakeReply().status, 408);
  EXPECT_TRUE(header->ended());
  EXPECT_EQ(body->received(), "");
  fixture.Advance(50'000);
  EXPECT_EQ(body->TakeReply().status, 408);
  EXPECT_FALSE(idle->ended());
  fixture.Advance(15'000);
  EXPECT_TRUE(idle->ended());
  EXPECT_EQ(fixture.gateway->connection_count(), 0U);
}

TEST(HttpConnection, ReadsAheadOnlySoFar) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  std::string many;
  for (int i = 0; i < 3'000; ++i) many += kLive;
  client->Send(kPost + std::string("Content-Length: 14\r\n\r\n{\"prompt\":\"a\"}") + many);
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  EXPECT_EQ(client->TakeReply().status, 200);
  for (int i = 0; i < 3'000; ++i) ASSERT_EQ(client->TakeReply().status, 200) << i;
}

TEST(HttpServer, RefusesMoreConnectionsThanItMayHold) {
  HttpGatewayOptions options;
  options.limits.connections_max = 2;
  GatewayFixture fixture(std::move(options));
  auto first = fixture.Connect();
  first->Request("POST", kCompletions, R"({"prompt":"a"})");
  auto second = fixture.Connect();
  second->Send("GET /livez HT");
  fixture.Poll();
  auto third = fixture.Connect();
  EXPECT_EQ(third->TakeReply().status, 503);
  EXPECT_TRUE(third->ended());
  EXPECT_FALSE(first->ended());
  EXPECT_FALSE(second->ended());
  first->HangUp();
  EXPECT_EQ(fixture.Get("/livez").status, 200);
}

TEST(HttpServer, ClosesTheConnectionThatHasBeenIdleLongestForANewOne) {
  HttpGatewayOptions options;
  options.limits.connections_max = 2;
  GatewayFixture fixture(std::move(options));
  auto first = fixture.Connect();
  fixture.Advance(1'000);
  auto second = fixture.Connect();
  fixture.Advance(1'000);
  first->Request("GET", "/livez");
  EXPECT_EQ(first->TakeReply().status, 200);
  EXPECT_EQ(fixture.Get("/livez").status, 200);
  EXPECT_TRUE(second->ended());
  EXPECT_FALSE(first->ended());
}

TEST(HttpServer, HoldsABoundedNumberOfRefusals) {
  HttpGatewayOptions options;
  options.limits.connections_max = 1;
  GatewayFixture fixture(std::move(options));
  auto busy = fixture.Connect();
  busy->Request("POST", kCompletions, R"({"prompt":"a"})");
  std::vector<std::unique_ptr<GatewayFixture::Client>> refused;
  for (int i = 0; i < 100; ++i) refused.push_back(fixture.Connect(/*reading=*/false));
  int told = 0;
  for (const auto& client : refused) {
    client->Read();
    fixture.Poll();
    told += client->received().starts_with("HTTP/1.1 503") ? 1 : 0;
    EXPECT_TRUE(client->ended());
  }
  EXPECT_EQ(told, 32);
  fixture.Advance(2'000);
  EXPECT_EQ(fixture.Connect()->TakeReply().status, 503) << "there is room for refusals again";
}

TEST(HttpGateway, FinishesWhatIsUnderWayWhenItStops) {
  GatewayFixture fixture;
  auto idle = fixture.Connect();
  auto busy = fixture.Connect();
  busy->Request("POST", kCompletions, R"({"prompt":"a"})");
  auto stopped = fixture.gateway->Stop(5'000);
  EXPECT_FALSE(stopped.poll(fixture.wait_scope));
  EXPECT_TRUE(idle->ended());
  fixture.generation.Finish(0, FinishReason::kLength, {'x'});
  const Reply reply = busy->TakeReply();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("connection"), "close");
  fixture.Advance(3'000);
  EXPECT_TRUE(stopped.poll(fixture.wait_scope));
}

TEST(HttpGateway, DropsWhatOutlivesTheGrace) {
  GatewayFixture fixture;
  auto busy = fixture.Connect();
  busy->Request("POST", kCompletions, R"({"prompt":"a"})");
  auto stopped = fixture.gateway->Stop(1'000);
  fixture.Advance(1'250);
  EXPECT_TRUE(stopped.poll(fixture.wait_scope));
  EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
}

// Over real sockets, in real time: every wait below ends by an event, not by a clock.
class Socket : public ::testing::Test {
 public:
  ~Socket() noexcept override = default;

 protected:
  std::unique_ptr<HttpGateway> Listen(uint16_t port, const std::string& bind = "127.0.0.1") {
    HttpGatewayOptions options;
    options.bind = bind;
    options.port = port;
    auto gateway = std::make_unique<HttpGateway>(std::move(options), generation, TextService{},
                                                 io.provider->getTimer(), io.unixEventPort);
    gateway->Listen(io.provider->getNetwork(), io.waitScope);
    return gateway;
  }

  kj::Own<kj::AsyncIoStream> Connect(uint16_t port) {
    auto& network = io.provider->getNetwork();
    return network.parseAddress("127.0.0.1", port)
        .then([](kj::Own<kj::NetworkAddress>&& address) {
          auto connection = address->connect();
          return connection.attach(kj::mv(address));
        })
        .wait(io.waitScope);
  }

  kj::AsyncIoContext io = kj::setupAsyncIo();
  FakeGeneration generation;
};

TEST_F(Socket, ServesOnAFreePortAndNamesOneInUse) {
  auto gateway = Listen(0);
  ASSERT_NE(gateway->port(), 0);
  auto stream = Connect(gateway->port());
  const std::string_view request = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  stream->write(request.data(), request.size()).wait(io.waitScope);
  EXPECT_THAT(stream->readAllText().wait(io.waitScope).cStr(), StartsWith("HTTP/1.1 200 OK\r\n"));
  try {
    Listen(gateway->port());
    FAIL() << "two listeners on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(),
                StartsWith(Str("port ", gateway->port(), " on 127.0.0.1 is in use: ")));
  }
}

TEST_F(Socket, SaysWhyAnAddressCannotBeListenedOn) {
  try {
    Listen(0, "192.0.2.1");
    FAIL() << "an address that is not this machine's";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith("cannot listen on 192.0.2.1:0: "));
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("::bind")));
  }
}

TEST_F(Socket, NamesAUrlByWhichThisMachineReachesIt) {
  for (const auto& [bind, host] :
       {std::pair("127.0.0.1", "127.0.0.1"), std::pair("127.0.0.2", "127.0.0.2"),
        std::pair("0.0.0.0", "127.0.0.1"), std::pair("*", "127.0.0.1")}) {
    const auto gateway = Listen(0, bind);
    EXPECT_EQ(gateway->url(), Str("http://", host, ":", gateway->port())) << bind;
  }
  EXPECT_EQ(UrlHost("::1"), "[::1]");
  EXPECT_EQ(UrlHost("[::1]"), "[::1]");
}

TEST_F(Socket, NoticesAClientThatHangsUpWithoutWritingToIt) {
  auto gateway = Listen(0);
  auto stream = Connect(gateway->port());
  const std::string request = kPost + std::string("Content-Length: 14\r\n\r\n{\"prompt\":[1]}");
  generation.served.context_tokens = 10;
  stream->write(request.data(), request.size()).wait(io.waitScope);
  // No tokenizer and no vocabulary: the id is refused, and the connection stays open.
  char answer[12];
  stream->read(answer, sizeof(answer)).wait(io.waitScope);
  EXPECT_EQ(std::string_view(answer, sizeof(answer)), "HTTP/1.1 400");
  EXPECT_EQ(gateway->connection_count(), 1U);
  stream = nullptr;
  while (gateway->connection_count() > 0) {
    io.provider->getTimer().afterDelay(1 * kj::MILLISECONDS).wait(io.waitScope);
  }
}

}  // namespace
}  // namespace shoal::gateway
