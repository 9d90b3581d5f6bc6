// Clients that are slow, many, gone or not meant well: each meets a bound, and others are served.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kBody = R"({"prompt":"a"})";
constexpr std::string_view kLargeHead =
    "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    "Content-Length: 4000000\r\nExpect: 100-continue\r\n";

HttpGatewayOptions WithAKey() {
  HttpGatewayOptions options;
  options.find_caller = [](std::string_view key) -> std::optional<rpc::Caller> {
    if (key != "good") return std::nullopt;
    return rpc::Caller{.owner = "key good"};
  };
  return options;
}

TEST(Hostile, WithoutAKeyNobodyIsAskedForABody) {
  GatewayFixture fixture(WithAKey());
  for (const char* key : {"", "Authorization: Bearer bad\r\n"}) {
    auto client = fixture.Connect();
    client->Send(Str(kLargeHead, key, "\r\n"));
    const Reply reply = client->TakeReply();
    EXPECT_EQ(reply.status, 401) << client->received();
    EXPECT_EQ(reply.json()["error"]["code"], "invalid_api_key");
    EXPECT_EQ(reply.headers.at("connection"), "close");
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer");
    fixture.Advance(2'500);
    EXPECT_TRUE(client->ended());
  }
  auto client = fixture.Connect();
  client->Send(Str(kLargeHead, "Authorization: Bearer good\r\n\r\n"));
  EXPECT_THAT(client->received(), HasSubstr("100 Continue"));
}

TEST(Hostile, ManyIdleConnectionsKeepNobodyOut) {
  GatewayFixture fixture;
  auto streaming = fixture.Connect();
  streaming->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  std::vector<std::unique_ptr<GatewayFixture::Client>> idle;
  for (int i = 0; i < 10'000; ++i) {
    idle.push_back(fixture.Connect(/*reading=*/false));
    if (i % 100 == 0) fixture.Poll();
  }
  fixture.Poll();
  EXPECT_LE(fixture.gateway->connection_count(), HttpLimits().connections_max);
  EXPECT_EQ(fixture.Get("/livez").status, 200);
  EXPECT_FALSE(fixture.generation.sequences[0].cancelled) << "what is answered is not idle";
  fixture.generation.Finish(0, FinishReason::kLength, {'b'});
  EXPECT_EQ(streaming->TakeReply().events().back(), "[DONE]");
}

// Nobody reads its answer: that is how most clients that give up look.
TEST(Hostile, AHalfClosedConnectionWaitsForNothing) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, kBody);
  ASSERT_THAT(fixture.generation.sequences, SizeIs(1));
  client->EndSending();
  fixture.Poll();
  EXPECT_TRUE(fixture.generation.sequences[0].cancelled);
  EXPECT_EQ(fixture.gateway->connection_count(), 0U);
}

TEST(Hostile, ARequestThatIsNotWholeIsNeverExecuted) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send(
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
      "Content-Length: 15\r\n\r\n");
  client->Send(kBody);  // A byte is missing.
  client->EndSending();
  fixture.Poll();
  EXPECT_THAT(fixture.generation.sequences, IsEmpty());
  EXPECT_EQ(fixture.gateway->connection_count(), 0U);
}

TEST(Hostile, AByteNowAndThenBuysNoTime) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send("GET /livez HTTP/1.1\r\nHost: h\r\nX-A: ");
  for (int i = 0; i < 12 && !client->ended(); ++i) {
    client->Send("a");
    fixture.Advance(1'000);
  }
  EXPECT_THAT(client->received(), HasSubstr("HTTP/1.1 408 Request Timeout"));
}

TEST(Hostile, AHeaderWithoutAnEndIsRefusedAtItsBound) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send("GET /livez HTTP/1.1\r\nHost: h\r\nX-A: ");
  client->Send(std::string(HttpLimits().header_bytes_max, 'a'));
  EXPECT_THAT(client->received(), HasSubstr("HTTP/1.1 431 Request Header Fields Too Large"));
}

}  // namespace
}  // namespace shoal::gateway
