// The words of HTTP.

#include "coordinator/gateway/http/http_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using ::testing::StartsWith;

TEST(Message, NamesEachStatusAsTheStandardDoes) {
  EXPECT_EQ(ReasonPhrase(409), "Conflict");
  EXPECT_EQ(ReasonPhrase(413), "Content Too Large");
  EXPECT_EQ(ReasonPhrase(429), "Too Many Requests");
  EXPECT_EQ(ReasonPhrase(503), "Service Unavailable");
  EXPECT_EQ(ReasonPhrase(299), "") << "none is better than a wrong one";
}

TEST(Message, SaysSoInTheStatusLine) {
  GatewayFixture fixture;
  fixture.generation.early_refusal = StreamError{BusyReason::kQuotaExceeded, "the tenant's", 700};
  auto client = fixture.Connect();
  client->Request("POST", "/v1/completions", R"({"prompt":"a"})");
  EXPECT_THAT(client->received(), StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
}

}  // namespace
}  // namespace shoal::gateway
