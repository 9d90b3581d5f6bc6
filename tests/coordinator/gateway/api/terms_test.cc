// What a generation's headers say of it, and how overload is told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kBody = R"({"prompt":"a"})";

HttpGatewayOptions WithTenants() {
  HttpGatewayOptions options;
  options.find_caller = [](std::string_view key) -> std::optional<rpc::Caller> {
    if (key == "v") return rpc::Caller{"vip", "tenant vip", ServiceClass::kCriticalPlus};
    if (key == "b") return rpc::Caller{"bulk", "tenant bulk", ServiceClass::kSheddablePlus};
    return std::nullopt;
  };
  return options;
}

TEST(Terms, AreTheDefaultOnesWithoutHeaders) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, kBody);
  ASSERT_THAT(fixture.generation.sequences, SizeIs(1));
  RequestTerms terms = fixture.generation.sequences[0].terms;
  EXPECT_THAT(terms.name, HasSubstr("req-"));
  terms.name.clear();
  EXPECT_EQ(terms, RequestTerms());
}

TEST(Terms, AreOfEachSequenceOfTheRequestAndOfItsCheckBefore) {
  GatewayFixture fixture(WithTenants());
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":["a","b"],"n":2})",
                  "Authorization: Bearer v\r\nX-Request-Id: mine\r\nX-Shoal-Class: sheddable\r\n"
                  "X-Shoal-Deadline-Ms: 1500\r\nX-Shoal-Attempt: 2\r\nX-Shoal-Session: s-1\r\n");
  const RequestTerms expected{"mine", "vip", ServiceClass::kSheddable, 1500, 2, "s-1"};
  ASSERT_THAT(fixture.generation.sequences, SizeIs(4));
  for (const auto& sequence : fixture.generation.sequences) EXPECT_EQ(sequence.terms, expected);
  EXPECT_THAT(fixture.generation.checked, ::testing::ElementsAre(expected));
}

TEST(Terms, HaveAtMostTheTenantsOwnClassAndSayWhichItIs) {
  GatewayFixture fixture(WithTenants());
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, kBody,
                  "Authorization: Bearer b\r\nX-Shoal-Class: critical_plus\r\n");
  fixture.generation.Finish(0, FinishReason::kLength);
  EXPECT_EQ(fixture.generation.sequences[0].terms.service_class, ServiceClass::kSheddablePlus);
  EXPECT_EQ(fixture.generation.sequences[0].terms.tenant, "bulk");
  EXPECT_EQ(client->TakeReply().headers.at("x-shoal-class"), "sheddable_plus");
}

struct BadHeader {
  std::string header;
  std::string value;
  std::string expected;
};

TEST(Terms, AreRefusedByNameIfTheyAreWrong) {
  GatewayFixture fixture;
  const std::string classes = "critical_plus, critical, sheddable_plus or sheddable";
  const std::vector<BadHeader> cases = {
      {"X-Shoal-Class", "vip", classes},
      {"X-Shoal-Class", "Critical", classes},
      {"X-Shoal-Class", "", classes},
      {"X-Shoal-Deadline-Ms", "0", "1 to 604800000"},
      {"X-Shoal-Deadline-Ms", "-5", "1 to 604800000"},
      {"X-Shoal-Deadline-Ms", "604800001", "1 to 604800000"},
      {"X-Shoal-Deadline-Ms", "1.5", "1 to 604800000"},
      {"X-Shoal-Deadline-Ms", "99999999999999999999", "1 to 604800000"},
      {"X-Shoal-Deadline-Ms", "5s", "1 to 604800000"},
      {"X-Shoal-Attempt", "0", "1 to 1000"},
      {"X-Shoal-Attempt", "1001", "1 to 1000"},
      {"X-Shoal-Attempt", "one", "1 to 1000"},
      {"X-Shoal-Session", "", "1 to 256"},
      {"X-Shoal-Session", "two words", "1 to 256"},
      {"X-Shoal-Session", std::string(257, 's'), "1 to 256"},
      {"X-Shoal-Resumable", "yes", "1 or 0"},
      {"X-Shoal-Degrade", "", "1 or 0"},
      {"X-Shoal-Strict", "true", "1 or 0"},
  };
  for (const BadHeader& bad : cases) {
    const Reply reply = fixture.Post(kCompletions, kBody, Str(bad.header, ": ", bad.value, "\r\n"));
    EXPECT_EQ(reply.status, 400) << bad.header << ": " << bad.value;
    const json error = reply.json()["error"];
    EXPECT_EQ(error["param"], bad.header);
    EXPECT_EQ(error["code"], "invalid_value");
    EXPECT_THAT(error["message"].get<std::string>(),
                AllOf(HasSubstr(bad.header), HasSubstr(bad.expected)));
  }
  for (const char* twice : {"X-Shoal-Attempt: 2\r\nX-Shoal-Attempt: 3\r\n",
                            "X-Shoal-Strict: 1\r\nX-Shoal-Strict: 0\r\n"}) {
    const Reply reply = fixture.Post(kCompletions, kBody, twice);
    EXPECT_EQ(reply.json()["error"]["code"], "duplicate_header") << twice;
  }
  EXPECT_THAT(fixture.generation.sequences, IsEmpty());
}

TEST(Terms, LoseTheTimeThatPassesAtTheDoor) {
  RequestTerms terms{.deadline_ms = 100};
  EXPECT_EQ(TakeTime(terms, 40 * kMillisecondNs), std::nullopt);
  EXPECT_EQ(terms.deadline_ms, 60);
  const std::optional<StreamError> over = TakeTime(terms, 60 * kMillisecondNs);
  ASSERT_TRUE(over) << "nothing is left of it";
  EXPECT_EQ(over->reason, BusyReason::kDeadlineUnreachable);
  EXPECT_THAT(over->message, HasSubstr("60 ms"));
  RequestTerms none;
  EXPECT_EQ(TakeTime(none, 1'000 * kSecondNs), std::nullopt);
  EXPECT_EQ(none, RequestTerms());
}

constexpr std::string_view kSlowHead =
    "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    "Content-Length: 14\r\nX-Shoal-Deadline-Ms: 1000\r\n\r\n";

TEST(Terms, CountTheDeadlineFromTheFirstByteOfTheRequest) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Send(kSlowHead.substr(0, 10));
  fixture.Advance(250);
  client->Send(kSlowHead.substr(10));
  fixture.Advance(500);
  client->Send(kBody);
  ASSERT_THAT(fixture.generation.sequences, SizeIs(1));
  EXPECT_EQ(fixture.generation.sequences[0].terms.deadline_ms, 250);
}

TEST(Terms, RefuseWhatIsLateBeforeItIsReadAndRecordIt) {
  GatewayFixture fixture;
  fixture.tokenizer.on_encode = [] { ADD_FAILURE() << "it was read"; };
  auto client = fixture.Connect();
  client->Send(kSlowHead);
  fixture.Advance(1'000);
  client->Send(kBody);
  const Reply reply = client->TakeReply();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "deadline_unreachable");
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
  EXPECT_THAT(fixture.generation.sequences, IsEmpty());
  EXPECT_THAT(fixture.generation.checked, IsEmpty());
  ASSERT_THAT(fixture.generation.records, SizeIs(1));
  EXPECT_EQ(fixture.generation.records[0].reason, BusyReason::kDeadlineUnreachable);
}

TEST(Terms, CountADeadlineOfARequestThatWasReadAheadFromWhenItCame) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, kBody);
  client->Send(Str(kSlowHead, kBody));
  fixture.Advance(500);
  fixture.generation.Finish(0, FinishReason::kLength);
  fixture.Poll();
  ASSERT_THAT(fixture.generation.sequences, SizeIs(2));
  EXPECT_EQ(fixture.generation.sequences[1].terms.deadline_ms, 500);
}

TEST(Terms, AreListedWithTheParameters) {
  GatewayFixture fixture;
  std::vector<std::string> names;
  const json parameters = fixture.Get("/v1/parameters").json();
  for (const json& header : parameters["headers"]) {
    names.push_back(header["name"]);
    EXPECT_FALSE(header["note"].get<std::string>().empty());
  }
  for (const char* name : {"X-Shoal-Class", "X-Shoal-Deadline-Ms", "X-Shoal-Attempt",
                           "X-Shoal-Session", "X-Shoal-Resumable", "X-Shoal-Degrade",
                           "X-Shoal-Strict", "Last-Event-ID", "X-Request-Id", "Authorization"}) {
    EXPECT_THAT(names, ::testing::Contains(name));
  }
}

// What comes for its answer may join another one only if that is sure to be its own.
TEST(Sharing, IsOfferedForWhatHasOneAnswer) {
  GatewayFixture fixture;
  const std::vector<std::pair<json, bool>> cases = {
      {{{"prompt", "a"}}, false},
      {{{"prompt", "a"}, {"temperature", 0}}, true},
      {{{"prompt", "a"}, {"seed", 3}}, true},
      {{{"prompt", "a"}, {"temperature", 0.5}}, false},
  };
  auto client = fixture.Connect();
  for (const auto& [body, shares] : cases) {
    auto one = fixture.Connect();
    one->Request("POST", kCompletions, body.dump());
    EXPECT_EQ(fixture.generation.sequences.back().shares, shares) << body;
  }
}

TEST(Overload, IsToldWithItsReasonAndWhenToComeAgain) {
  struct Case {
    StreamError error;
    int status;
    std::string retry_after;
    json predicted;
  };
  const std::vector<Case> cases = {
      {{BusyReason::kQuotaExceeded, "the tenant's bound", 1'500}, 429, "2", nullptr},
      {{BusyReason::kQueueFull, "full", 1'000, 8'000}, 503, "1", 8'000},
      {{BusyReason::kKvFull, "no blocks", 400, 0}, 503, "1", 0},
      {{BusyReason::kDeadlineUnreachable, "in 900 ms", 400, 900}, 503, "1", 900},
      {{BusyReason::kBreakerOpen, "a breaker", 30'000}, 503, "30", nullptr},
      {{BusyReason::kDraining, "stopping", 5'000}, 503, "5", nullptr},
  };
  for (const bool early : {true, false}) {
    for (const Case& one : cases) {
      GatewayFixture fixture;
      (early ? fixture.generation.early_refusal : fixture.generation.refusal) = one.error;
      bool encoded = false;
      fixture.tokenizer.on_encode = [&] { encoded = true; };
      const Reply reply = fixture.Post(kCompletions, kBody);
      EXPECT_EQ(encoded, !early) << "what can be refused before is not tokenized";
      EXPECT_EQ(reply.status, one.status) << one.error.message;
      EXPECT_EQ(reply.headers.at("retry-after"), one.retry_after);
      const json error = reply.json()["error"];
      EXPECT_EQ(error["code"], ToString(one.error.reason));
      EXPECT_EQ(error["retry_after_ms"], one.error.retry_after_ms);
      ASSERT_TRUE(error.contains("predicted_wait_ms"));
      EXPECT_EQ(error["predicted_wait_ms"], one.predicted);
    }
  }
}

TEST(Overload, IsToldInBandOnceTheAnswerHasBegun) {
  GatewayFixture fixture;
  auto client = fixture.Connect();
  client->Request("POST", kCompletions, R"({"prompt":"a","stream":true})");
  fixture.generation.Deliver(0, "b");
  fixture.generation.Fail(0, BusyReason::kDeadlineExceeded);
  const std::vector<std::string> events = client->TakeReply().events();
  ASSERT_THAT(events, SizeIs(3));
  const json error = json::parse(events[1])["error"];
  EXPECT_EQ(error["code"], "deadline_exceeded");
  EXPECT_EQ(error["retry_after_ms"], 1'500);
  EXPECT_TRUE(error["predicted_wait_ms"].is_null());
  EXPECT_EQ(events[2], "[DONE]");
}

TEST(Overload, SaysNothingOfWaitingWhereItWouldNotHelp) {
  GatewayFixture fixture;
  const json error = fixture.Post(kCompletions, R"({"prompt":1})").json()["error"];
  EXPECT_FALSE(error.contains("retry_after_ms"));
  EXPECT_FALSE(error.contains("predicted_wait_ms"));
}

}  // namespace
}  // namespace shoal::gateway
