// The exact windows of every retry profile, what the default asks again for, and what holds many
// requests of one client back.

#include "transport/client/retry_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "transport/client/retry_guard.h"

namespace shoal::client {
namespace {

using ::testing::ElementsAre;

constexpr double kAlmostOne = 0x1.fffffffffffffp-1;

Failure Busy(int64_t retry_after_ms = -1) {
  return {.status = 503, .code = "queue_full", .retry_after_ms = retry_after_ms};
}

// The waits of a request that fails again and again, with that draw each time.
std::vector<int64_t> Waits(const RetryOptions& options, const Failure& failure, double draw) {
  std::vector<int64_t> waits;
  for (RetryState state; waits.size() < 100; ++state.attempt) {
    const RetryDecision decision = DecideRetry(options, state, failure, draw);
    if (decision.give_up != GiveUp::kNone) break;
    waits.push_back(decision.wait_ms);
    state.elapsed_ms += decision.wait_ms;
  }
  return waits;
}

std::vector<int64_t> Waits(RetryProfile profile, double draw) {
  return Waits({.profile = profile}, Busy(), draw);
}

TEST(RetryProfiles, HaveNames) {
  for (const char* name : {"none", "default", "seed1_text", "seed1_code", "seed2"}) {
    const auto profile = ParseRetryProfile(name);
    ASSERT_TRUE(profile.has_value()) << name;
    EXPECT_EQ(ToString(*profile), name);
  }
  EXPECT_FALSE(ParseRetryProfile("seed3").has_value());
  EXPECT_FALSE(ParseRetryProfile("").has_value());
}

TEST(RetryProfiles, WaitInTheArticlesExactWindows) {
  EXPECT_THAT(Waits(RetryProfile::kNone, 0.5), ElementsAre());
  EXPECT_THAT(Waits(RetryProfile::kSeed1Text, 0), ElementsAre(1'000, 2'000, 4'000));
  EXPECT_THAT(Waits(RetryProfile::kSeed1Text, kAlmostOne), ElementsAre(1'000, 3'999, 7'999));
  EXPECT_THAT(Waits(RetryProfile::kSeed1Code, 0), ElementsAre(1'000, 2'000));
  EXPECT_THAT(Waits(RetryProfile::kSeed1Code, kAlmostOne), ElementsAre(1'999, 2'999));
  // What tenacity 9.2.1 sleeps.
  EXPECT_THAT(Waits(RetryProfile::kSeed2, 0), ElementsAre(4'000, 4'000, 4'000, 8'000));
  EXPECT_EQ(Waits(RetryProfile::kSeed2, 0), Waits(RetryProfile::kSeed2, kAlmostOne));
}

// Ten slices of each window hold a tenth of the draws each: far beyond five standard deviations, a
// slice that does not would be seen.
TEST(RetryProfiles, SpreadEvenlyInTheirWindows) {
  struct Window {
    RetryProfile profile;
    int32_t attempt;
    int64_t from_ms;
    int64_t to_ms;
  };
  constexpr int kDraws = 20'000;
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> draw(0, 1);
  for (const Window& window :
       {Window{RetryProfile::kSeed1Text, 2, 2'000, 4'000},
        Window{RetryProfile::kSeed1Text, 3, 4'000, 8'000},
        Window{RetryProfile::kSeed1Code, 1, 1'000, 2'000},
        Window{RetryProfile::kSeed1Code, 2, 2'000, 3'000},
        Window{RetryProfile::kDefault, 1, 0, 1'000}, Window{RetryProfile::kDefault, 3, 0, 4'000},
        Window{RetryProfile::kDefault, 4, 0, 8'000}}) {
    std::vector<int> slices(10);
    for (int i = 0; i < kDraws; ++i) {
      const RetryDecision decision = DecideRetry({.profile = window.profile},
                                                 {.attempt = window.attempt}, Busy(), draw(random));
      ASSERT_EQ(decision.give_up, GiveUp::kNone);
      ASSERT_GE(decision.wait_ms, window.from_ms);
      ASSERT_LT(decision.wait_ms, window.to_ms);
      ++slices[static_cast<size_t>(10 * (decision.wait_ms - window.from_ms) /
                                   (window.to_ms - window.from_ms))];
    }
    for (const int count : slices) {
      EXPECT_NEAR(count, kDraws / 10, 250) << ToString(window.profile) << " " << window.attempt;
    }
  }
}

TEST(RetryProfiles, OfTheArticlesAskAgainWhateverWentWrongButNeverForHalfAnAnswer) {
  for (const auto profile :
       {RetryProfile::kSeed1Text, RetryProfile::kSeed1Code, RetryProfile::kSeed2}) {
    EXPECT_EQ(Waits({.profile = profile}, {.status = 400, .retry_after_ms = 0}, 0),
              Waits(profile, 0));
    EXPECT_EQ(Waits({.profile = profile}, Busy(600'000), 0), Waits(profile, 0))
        << "they do not hear what the server says";
    EXPECT_THAT(Waits({.profile = profile}, {.status = 503, .begun = true}, 0), ElementsAre());
  }
}

TEST(DefaultRetry, DrawsFromWindowsThatDoubleAboveWhatTheServerAsksFor) {
  EXPECT_THAT(Waits({}, Busy(), kAlmostOne), ElementsAre(999, 1'999, 3'999, 7'999));
  EXPECT_THAT(Waits({}, Busy(), 0), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Waits({}, Busy(3'000), 0), ElementsAre(3'000, 3'000, 3'000, 3'000));
  EXPECT_THAT(Waits({}, Busy(3'000), 0.5), ElementsAre(3'500, 4'000, 5'000, 7'000));
  EXPECT_THAT(Waits({.attempts_max = 7, .window_max_ms = 3'000}, Busy(), 0.5),
              ElementsAre(500, 1'000, 1'500, 1'500, 1'500, 1'500));
  EXPECT_EQ(DecideRetry({}, {.attempt = 5}, Busy(), 0), RetryDecision{GiveUp::kAttempts});
}

TEST(DefaultRetry, AsksAgainOnlyWhereThatIsSafeAndMayHelp) {
  for (const int32_t status : {0, 408, 429, 500, 502, 503, 504}) {
    EXPECT_EQ(DecideRetry({}, {}, {.status = status}, 0).give_up, GiveUp::kNone) << status;
    EXPECT_EQ(DecideRetry({}, {}, {.status = status, .begun = true}, 0).give_up, GiveUp::kFinal);
    EXPECT_EQ(DecideRetry({}, {}, {.status = status, .timed_out = true}, 0).give_up,
              GiveUp::kFinal);
    EXPECT_EQ(DecideRetry({}, {}, {.status = status, .retry_after_ms = 0}, 0).give_up,
              GiveUp::kFinal)
        << "the server says that it is of no use";
  }
  for (const int32_t status : {200, 400, 401, 403, 404, 409, 410, 413, 422, 501, 505}) {
    EXPECT_EQ(DecideRetry({}, {}, {.status = status}, 0).give_up, GiveUp::kFinal) << status;
  }
  for (const char* code : {"deadline_exceeded", "refused", "numeric_error", "request_suspect"}) {
    const Failure failure{.status = 503, .code = code, .retry_after_ms = 1'000};
    EXPECT_EQ(DecideRetry({}, {}, failure, 0).give_up, GiveUp::kFinal) << code;
  }
}

TEST(DefaultRetry, EndsWithItsTimeOrTheRequests) {
  const RetryOptions options{.total_ms = 10'000};
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 8'999}, Busy(1'000), 0).wait_ms, 1'000);
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 9'000}, Busy(1'000), 0).give_up, GiveUp::kDeadline);
  EXPECT_EQ(DecideRetry(options, {}, Busy(INT64_MAX), 0.5).give_up, GiveUp::kDeadline);
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 1'000, .deadline_ms = 2'000}, Busy(1'000), 0),
            RetryDecision{GiveUp::kDeadline});
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 1'000, .deadline_ms = 2'001}, Busy(1'000), 0),
            (RetryDecision{GiveUp::kNone, 1'000}));
  // It would wait longer for its first token than it has time.
  Failure late = Busy(100);
  late.predicted_wait_ms = 1'000;
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 1'000, .deadline_ms = 2'000}, late, 0),
            RetryDecision{GiveUp::kDeadline});
  EXPECT_EQ(DecideRetry(options, {.elapsed_ms = 1'000, .deadline_ms = 2'001}, late, 0).give_up,
            GiveUp::kNone);
  EXPECT_EQ(DecideRetry({.profile = RetryProfile::kSeed2}, {.deadline_ms = 4'000}, Busy(), 0),
            RetryDecision{GiveUp::kDeadline});
}

TEST(AdaptiveThrottle, RefusesWhatGoesBeyondTwiceTheAccepted) {
  AdaptiveThrottle throttle;
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(throttle.Allow(0, 0)) << "one refusal says little";
  EXPECT_TRUE(throttle.Allow(0, 0));
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(0), 10.0 / 11);
  for (int i = 0; i < 4; ++i) throttle.OnAccepted(0);
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(0), (10 - 2 * 4) / 11.0);
  EXPECT_FALSE(throttle.Allow(0, 0.18));
  EXPECT_TRUE(throttle.Allow(0, 0.99));
  throttle.OnAccepted(0);
  throttle.OnAccepted(0);
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(0), 0) << "twelve requests, six taken";
  // What was two minutes ago counts no more.
  for (int i = 0; i < 20; ++i) throttle.Allow(60'000, 0.999);
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(119'999), (32 - 2 * 6) / 33.0);
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(120'000), 20 / 21.0);
  EXPECT_DOUBLE_EQ(throttle.RefusalProbability(180'000), 0);
}

// A server that takes one request in ten hears of about two in ten.
TEST(AdaptiveThrottle, SendsAboutTwiceWhatIsTaken) {
  AdaptiveThrottle throttle;
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> draw(0, 1);
  int sent = 0;
  int taken = 0;
  for (int i = 0; i < 100'000; ++i) {
    const int64_t now_ms = i;  // 1,000 a second; the server takes 100.
    if (!throttle.Allow(now_ms, draw(random))) continue;
    ++sent;
    if (taken * 10 > i) continue;
    ++taken;
    throttle.OnAccepted(now_ms);
  }
  EXPECT_NEAR(taken, 10'000, 200);
  EXPECT_NEAR(sent, 20'000, 2'000);
}

TEST(RetryBudget, IsAFifthOfTheRequests) {
  RetryBudget budget;
  int retries = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.OnRequest();
    while (budget.Take()) ++retries;
  }
  EXPECT_NEAR(retries, 2'010, 1);
  RetryBudget saved;
  for (int i = 0; i < 10'000; ++i) saved.OnRequest();
  for (retries = 0; saved.Take();) ++retries;
  EXPECT_EQ(retries, 100) << "good times are not saved up without end";
}

TEST(RetryGuard, HoldsTheDefaultBackAndNoOther) {
  for (const auto profile : {RetryProfile::kDefault, RetryProfile::kSeed2}) {
    RetryGuard guard({.profile = profile}, [] { return 0.5; });
    int sent = 0;
    for (int request = 0; request < 1'000; ++request) {
      for (RetryState state;; ++state.attempt) {
        const bool may_send = guard.MaySend(state.attempt, 0);
        sent += may_send ? 1 : 0;
        const Failure failure = may_send ? Busy() : RetryGuard::Throttled();
        if (guard.OnFailure(state, failure).give_up != GiveUp::kNone) break;
      }
    }
    const bool is_held = profile == RetryProfile::kDefault;
    if (is_held) {
      EXPECT_LE(sent, 11) << "a server that takes nothing";
    } else {
      EXPECT_EQ(sent, 5'000);
    }
  }
}

TEST(RetryGuard, SaysThatTheBudgetIsUsedUp) {
  RetryGuard guard({}, [] { return 0.0; });
  EXPECT_TRUE(guard.MaySend(1, 0));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(guard.OnFailure({}, Busy()).give_up, GiveUp::kNone);
  EXPECT_EQ(guard.OnFailure({}, Busy()).give_up, GiveUp::kBudget);
}

}  // namespace
}  // namespace shoal::client
