// The pure parts of `shoal bench serve`: arrivals, and what latencies are made of.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/load/arrivals.h"
#include "coordinator/cli/bench/load/latency.h"
#include "coordinator/cli/bench/load/load.h"
#include "coordinator/cli/bench/pairs.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

constexpr PlannedRequest kShape = {.prompt_tokens = 5, .output_tokens = 7};

// A request due at `due` ms that streams at the given times.
RequestRecord Answered(int64_t due, std::vector<int64_t> events, int64_t tokens) {
  RequestRecord record;
  record.due = record.sent = (1000 + due) * kMillisecondNs;
  for (const int64_t at : events) record.events.push_back((1000 + at) * kMillisecondNs);
  record.end = record.events.back();
  record.completion_tokens = tokens;
  return record;
}

TEST(PoissonArrivals, AreTheSameForTheSameSeedAndOthersForAnother) {
  EXPECT_EQ(PoissonArrivals(50, 3, kShape, 1), PoissonArrivals(50, 3, kShape, 1));
  EXPECT_NE(PoissonArrivals(50, 3, kShape, 1), PoissonArrivals(50, 3, kShape, 2));
}

TEST(PoissonArrivals, ComeAtTheRateAskedForWithExponentialGaps) {
  constexpr int64_t kCount = 100'000;
  constexpr double kRate = 8;
  const auto arrivals = PoissonArrivals(kCount, kRate, kShape, 3);
  ASSERT_EQ(arrivals.size(), kCount);
  int64_t above_mean = 0;
  TimeNs last = 0;
  for (const PlannedRequest& request : arrivals) {
    ASSERT_GE(request.due, last);
    if (request.due - last > kSecondNs / kRate) ++above_mean;
    last = request.due;
    EXPECT_EQ(request.output_tokens, 7);
  }
  // The sum's relative deviation is 1 / sqrt(count); six of them.
  const double mean = static_cast<double>(last) / kSecondNs / kCount;
  EXPECT_NEAR(mean * kRate, 1, 6 / std::sqrt(double{kCount}));
  // An exponential gap exceeds its mean with probability 1 / e.
  EXPECT_NEAR(static_cast<double>(above_mean) / kCount, std::exp(-1), 6 * 0.5 / std::sqrt(kCount));
}

TEST(ParseTrace, ReadsTimesAndLengthsAndSkipsComments) {
  const std::vector<PlannedRequest> expected = {{0, 10, 20}, {1'500'000'000, 1, 2}};
  EXPECT_EQ(ParseTrace("# a trace\n0 10 20\n\n1.5 1 2  # late\n", "t"), expected);
}

TEST(ParseTrace, NamesTheLineThatIsWrong) {
  const auto message = [](const char* text) -> std::string {
    try {
      ParseTrace(text, "trace.txt");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  for (const char* bad : {"0 1 1\nx 1 1\n", "0 1 1\n1 1\n", "0 1 1\n1 0 1\n", "0 1 1\n1 1 1 1\n",
                          "0 1 1\n-1 1 1\n", "0 1 1\nnan 1 1\n", "1 1 1\n0 1 1\n"}) {
    EXPECT_NE(message(bad).find("trace.txt:2"), std::string::npos) << bad << message(bad);
  }
  EXPECT_NE(message("# nothing\n").find("found none"), std::string::npos);
}

TEST(Percentile, IsTheSmallestValueThatSoManyDoNotExceed) {
  const std::vector<double> values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_EQ(Percentile(values, 50), 5);
  EXPECT_EQ(Percentile(values, 90), 9);
  EXPECT_EQ(Percentile(values, 91), 10);
  EXPECT_EQ(Percentile(values, 99), 10);
  EXPECT_EQ(Percentile(std::vector<double>{4}, 50), 4);
}

TEST(Summarize, FollowsTheFormulas) {
  // First tokens after 10 and 30 ms; 10 and 20 ms a token.
  const std::vector<RequestRecord> records = {Answered(0, {10, 20, 30}, 3),
                                              Answered(10, {40, 60, 80, 100}, 4)};
  const auto summary = Summarize(records, {}, 0);
  EXPECT_EQ(summary["succeeded"], 2);
  EXPECT_DOUBLE_EQ(summary["duration_seconds"], 0.1);
  EXPECT_DOUBLE_EQ(summary["tokens_per_second"], 70);
  EXPECT_DOUBLE_EQ(summary["time_to_first_token_ms"]["p50"], 10);
  EXPECT_DOUBLE_EQ(summary["time_to_first_token_ms"]["max"], 30);
  EXPECT_DOUBLE_EQ(summary["time_per_output_token_ms"]["p50"], 10);
  EXPECT_DOUBLE_EQ(summary["time_per_output_token_ms"]["max"], 20);
  EXPECT_DOUBLE_EQ(summary["inter_token_ms"]["mean"], 16);
  EXPECT_DOUBLE_EQ(summary["end_to_end_ms"]["p99"], 90);
  EXPECT_TRUE(summary["full_tokens_per_second"].is_null());
  EXPECT_DOUBLE_EQ(summary["goodput_requests_per_second"], 20);
}

TEST(Summarize, CountsARequestThatWaitedForAConnectionFromWhenItWasDue) {
  RequestRecord record = Answered(0, {50, 60}, 2);
  record.sent += 40 * kMillisecondNs;
  const auto summary = Summarize(std::span(&record, 1), {}, 0);
  EXPECT_DOUBLE_EQ(summary["time_to_first_token_ms"]["p50"], 50);
}

TEST(Summarize, CountsGoodputOnlyWhereBothObjectivesAreKept) {
  std::vector<RequestRecord> records = {Answered(0, {10, 20, 30}, 3), Answered(0, {30, 40, 50}, 3),
                                        Answered(0, {10, 55, 100}, 3)};
  records.emplace_back(records[0]).failure = "status 503";
  const auto summary = Summarize(records, {.first_token_ms = 20, .per_token_ms = 20}, 0);
  EXPECT_DOUBLE_EQ(summary["goodput_requests_per_second"], 10);  // One in a tenth of a second.
  EXPECT_EQ(summary["succeeded"], 3);
  EXPECT_EQ(summary["failures"]["status 503"], 1);
}

TEST(Summarize, MeasuresFullConcurrencyOnlyWhileAllStream) {
  // Both stream from 20 to 40 ms: one makes two tokens then, the other one and a quarter.
  const std::vector<RequestRecord> records = {Answered(0, {10, 20, 30, 40}, 4),
                                              Answered(0, {20, 36, 52}, 3)};
  EXPECT_NEAR(Summarize(records, {}, 2)["full_tokens_per_second"], 162.5, 1e-9);
  EXPECT_TRUE(Summarize(records, {}, 3)["full_tokens_per_second"].is_null());
}

// Four requests that decode together, ten milliseconds a step; whose event is a step's first does
// not matter, nor whether two tokens of one request are read at once.
TEST(Summarize, MeasuresTheSameFullRateInWhateverOrderABurstArrives) {
  for (const bool first_ends_first : {false, true}) {
    std::vector<RequestRecord> records;
    for (int64_t i = 0; i < 4; ++i) {
      RequestRecord& record = records.emplace_back(Answered(0, {0, 10, 20, 30, 40}, 5));
      const int64_t place = first_ends_first ? i : 3 - i;
      for (TimeNs& at : record.events) at += place;  // Nanoseconds.
    }
    EXPECT_NEAR(Summarize(records, {}, 4)["full_tokens_per_second"], 400, 1e-3);
  }
  const std::vector<RequestRecord> pair = {Answered(0, {0, 10, 20, 30}, 4),
                                           Answered(0, {0, 20, 20, 30}, 4)};
  EXPECT_NEAR(Summarize(pair, {}, 2)["full_tokens_per_second"], 200, 1e-9);
}

TEST(Summarize, SaysNothingOfLatencyWhenNothingWasAnswered) {
  RequestRecord record;
  record.due = record.end = kSecondNs;
  record.failure = "refused";
  const auto summary = Summarize(std::span(&record, 1), {}, 4);
  EXPECT_TRUE(summary["time_to_first_token_ms"].is_null());
  EXPECT_TRUE(summary["tokens_per_second"].is_null());
  EXPECT_NE(ToText(summary).find("0 of 1"), std::string::npos);
}

TEST(ComparePairs, GivesTheMedianAndTheRangeOfTheRatios) {
  const std::vector<nlohmann::ordered_json> runs = {{{"x", 2}}, {{"x", 9}}, {{"x", 3}}};
  const std::vector<nlohmann::ordered_json> others = {{{"x", 1}}, {{"x", 3}}, {{"x", 3}}};
  const PairedRatio ratio = ComparePairs(runs, others, "x");
  EXPECT_EQ(ratio.ToText(), "2.000 (1.000 to 3.000)");
  EXPECT_EQ(ComparePairs(std::span(runs).first(2), std::span(others).first(2), "x").median, 2.5);
  EXPECT_THROW(ComparePairs(runs, others, "y"), Error);
}

TEST(RequestBody, SharesThePrefixAndNothingElse) {
  LoadOptions options;
  options.shared_prefix_tokens = 40;
  const PlannedRequest request = {.prompt_tokens = 100, .output_tokens = 3};
  const auto prompt = [&](int64_t index) {
    const auto body = nlohmann::json::parse(RequestBody(options, request, index));
    EXPECT_EQ(body["max_tokens"], 3);
    EXPECT_FALSE(body.contains("model"));
    return body["prompt"].get<std::vector<int64_t>>();
  };
  const auto first = prompt(0);
  const auto second = prompt(1);
  ASSERT_EQ(first.size(), 100);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 40, second.begin()));
  EXPECT_FALSE(std::equal(first.begin() + 40, first.end(), second.begin() + 40));
}

}  // namespace
}  // namespace shoal::cli
