// TokenBucket, Gcra and RetryBudget: what they let through, to the token and the millisecond.

#include "coordinator/core/tenants/token_bucket.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "coordinator/core/tenants/retry_budget.h"

namespace shoal::core {
namespace {

constexpr TimeNs kStart = 17 * kSecondNs;

TEST(TokenBucket, LetsABurstThroughAndThenTheRate) {
  TokenBucket bucket(100, 250, kStart);
  EXPECT_TRUE(bucket.Take(250, kStart));
  EXPECT_FALSE(bucket.Take(1, kStart));
  EXPECT_EQ(bucket.WaitMs(1, kStart), 10);
  EXPECT_FALSE(bucket.Take(1, kStart + 10 * kMillisecondNs - 1));
  EXPECT_TRUE(bucket.Take(1, kStart + 10 * kMillisecondNs));
}

TEST(TokenBucket, SaysToTheMillisecondWhenItWillHaveEnough) {
  TokenBucket bucket(3, 10, kStart);
  EXPECT_TRUE(bucket.Take(10, kStart));
  const int64_t wait_ms = bucket.WaitMs(7, kStart).value();
  EXPECT_EQ(wait_ms, 2'334);  // 7 / 3 s, rounded up.
  EXPECT_FALSE(bucket.Take(7, kStart + (wait_ms - 1) * kMillisecondNs));
  EXPECT_TRUE(bucket.Take(7, kStart + wait_ms * kMillisecondNs));
  EXPECT_EQ(bucket.WaitMs(11, kStart), std::nullopt) << "more than it ever holds";
}

TEST(TokenBucket, HasOneSecondsBurstWhereNoneIsGiven) {
  EXPECT_EQ(TokenBucket(100, 0, kStart).burst_tokens(), 100);
  EXPECT_EQ(TokenBucket(0.25, 0, kStart).burst_tokens(), 1);
}

TEST(TokenBucket, HoldsNoMoreThanItsBurstWhateverIsGivenBack) {
  TokenBucket bucket(1, 10, kStart);
  EXPECT_TRUE(bucket.Take(4, kStart));
  bucket.GiveBack(4, kStart + kSecondNs);
  EXPECT_FALSE(bucket.Take(11, kStart + kSecondNs));
  EXPECT_TRUE(bucket.Take(10, kStart + kSecondNs));
}

TEST(TokenBucket, KeepsWhatItHoldsWhenItsRateChanges) {
  TokenBucket bucket(10, 100, kStart);
  EXPECT_TRUE(bucket.Take(70, kStart));
  bucket.Configure(1'000, 50, kStart + kSecondNs);
  EXPECT_FALSE(bucket.Take(41, kStart + kSecondNs)) << "30 and one second at the old rate";
  EXPECT_TRUE(bucket.Take(40, kStart + kSecondNs));
  bucket.Configure(1'000, 5, kStart + 2 * kSecondNs);
  EXPECT_FALSE(bucket.Take(6, kStart + 2 * kSecondNs));
}

// Admitted work is at most the burst and rate x time, and not less than that by as much as a token
// where somebody always wants one, whatever the order of arrivals.
TEST(TokenBucket, AdmitsTheBurstAndRateTimesTimeInAnyOrder) {
  std::mt19937_64 random(28);
  for (int round = 0; round < 200; ++round) {
    const double rate = 0.001 * static_cast<double>(1 + random() % 10'000'000);
    const auto burst = static_cast<double>(1 + random() % 100'000);
    TokenBucket bucket(rate, burst, kStart);
    TimeNs now = kStart;
    int64_t admitted = 0;
    for (int i = 0; i < 500; ++i) {
      now += static_cast<TimeNs>(random() % (1 + random() % kSecondNs));
      const auto tokens = static_cast<int64_t>(1 + random() % (1 + random() % 5'000));
      if (bucket.Take(tokens, now)) admitted += tokens;
      if (random() % 8 == 0 && admitted >= tokens) {  // It was not used.
        bucket.GiveBack(tokens, now);
        admitted -= tokens;
      }
      const double bound = burst + rate * static_cast<double>(now - kStart) / kSecondNs;
      ASSERT_LE(static_cast<double>(admitted), bound * (1 + 1e-12)) << "round " << round;
    }
  }
}

TEST(TokenBucket, DoesNotDriftOverABillionTicksOfTheClock) {
  constexpr int64_t kTicks = 1'000'000;  // Of 1,000 ns, a third of a millionth of a token in each.
  TokenBucket bucket(1.0 / 3 * 1'000, 1, 0);
  EXPECT_TRUE(bucket.Take(1, 0));
  int64_t admitted = 0;
  for (int64_t i = 1; i <= kTicks; ++i) {
    if (bucket.Take(1, i * 1'000)) ++admitted;
  }
  EXPECT_EQ(admitted, 333);
  // At the highest rate for as long as a clock runs nothing overflows.
  TokenBucket largest(kTokensPerSecondMax, kBurstTokensMax, 0);
  EXPECT_TRUE(largest.Take(static_cast<int64_t>(kBurstTokensMax), 0));
  EXPECT_TRUE(largest.Take(static_cast<int64_t>(kBurstTokensMax), INT64_MAX));
  EXPECT_EQ(largest.WaitMs(1, INT64_MAX), 1);
}

TEST(Gcra, LetsWorkThroughAtAConstantRateHoweverItComes) {
  Gcra shaper;
  TimeNs now = kStart;
  int64_t given = 0;
  std::mt19937_64 random(49);
  while (now < kStart + 1'000 * kSecondNs) {
    now += static_cast<TimeNs>(random() % (100 * kMillisecondNs));  // Looked at now and then.
    while (shaper.Conforms(now, 200 * kMillisecondNs)) {
      const auto tokens = static_cast<int64_t>(1 + random() % 50);
      shaper.Take(tokens, 100, now);
      given += tokens;
    }
    // One request and what the slack allows, either way.
    const double due = 100 * static_cast<double>(now - kStart) / kSecondNs;
    ASSERT_NEAR(static_cast<double>(given), due, 50 + 20 + 10);
  }
}

TEST(RetryBudget, LetsALoneClientRetryAndOthersAShare) {
  RetryBudget budget;
  for (int i = 0; i < kRetriesMin; ++i) EXPECT_TRUE(budget.TakeRetry(0.2, kStart));
  EXPECT_FALSE(budget.TakeRetry(0.2, kStart));
  for (int i = 0; i < 400; ++i) budget.NoteFirst(kStart);
  int retries = kRetriesMin;
  while (budget.TakeRetry(0.2, kStart)) ++retries;
  EXPECT_EQ(retries, 100) << "a fifth of 400 + 100";
}

TEST(RetryBudget, SaysWhenTheNextOneIsAllowed) {
  RetryBudget budget;
  const TimeNs later = kStart + 3 * kSecondNs + 250 * kMillisecondNs;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(budget.TakeRetry(0.2, kStart));
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(budget.TakeRetry(0.2, later));
  EXPECT_FALSE(budget.TakeRetry(0.2, later));
  const int64_t wait_ms = budget.WaitMs(0.2, later);
  EXPECT_EQ(wait_ms, 6'750) << "the first five are out of the window then";
  EXPECT_FALSE(budget.TakeRetry(0.2, later + (wait_ms - 1) * kMillisecondNs));
  EXPECT_TRUE(budget.TakeRetry(0.2, later + wait_ms * kMillisecondNs));
  EXPECT_TRUE(RetryBudget().TakeRetry(0, kStart));
}

}  // namespace
}  // namespace shoal::core
