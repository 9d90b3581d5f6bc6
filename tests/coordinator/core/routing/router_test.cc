// Which group gets a request, by what is known of the groups.

#include "coordinator/core/routing/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/coordinator/core/support.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr TimeNs kNow = 100 * kSecondNs;

class RouterTest : public ::testing::TestWithParam<RoutingPolicy> {
 protected:
  void SetUp() override {
    for (uint64_t number = 0; number < 8; ++number) {
      Group group = MakeReadyGroup(number);
      group.ranks[0]->info.sequences_max = 16;
      group.ranks[0]->info.queue_requests_max = 100;
      group.ranks[0]->info.kv_cache_tokens = 10'000;
      groups_.emplace(number, std::move(group));
    }
  }

  std::optional<uint64_t> Choose(RoutingPolicy policy, const std::string& session = "",
                                 bool active = true) {
    const Router router(policy, active);
    return router.Choose({.key = groups_.begin()->second.key,
                          .tokens = std::ssize(prompt_) + 100,
                          .stream = {random_(), random_()},
                          .session = session,
                          .prompt = prompt_,
                          .salt = salt_},
                         groups_, guard_, kNow);
  }

  // It is given the request.
  void Give(uint64_t number) {
    Group& group = groups_.at(number);
    group.Give(++sequence_, {ServiceClass::kCritical, std::ssize(prompt_) + 100});
  }

  GroupMap groups_;
  Guard guard_{{}, true};
  std::mt19937_64 random_{7};
  std::vector<int32_t> prompt_ = std::vector<int32_t>(40, 5);
  std::string salt_;
  SequenceId sequence_ = 0;
};

// Nothing is reported between them: what was sent counts at once.
TEST_P(RouterTest, SpreadsABurstAlthoughTheReportsAreOld) {
  for (int i = 0; i < 800; ++i) Give(Choose(GetParam()).value());
  for (const auto& [number, group] : groups_) {
    EXPECT_NEAR(std::ssize(group.sequences), 100, 10) << number;
  }
}

TEST_P(RouterTest, TakesOnlyGroupsThatHaveRoom) {
  for (uint64_t number = 0; number < 7; ++number) groups_.at(number).full = true;
  EXPECT_EQ(Choose(GetParam()), 7u);
  groups_.at(7).given_max = 0;
  EXPECT_EQ(Choose(GetParam()), std::nullopt);
}

TEST_P(RouterTest, KeepsASessionWhereItWas) {
  std::map<std::string, uint64_t> owners;
  for (int i = 0; i < 100; ++i) owners[Str("s", i)] = Choose(GetParam(), Str("s", i)).value();
  std::set<uint64_t> used;
  for (const auto& [session, owner] : owners) used.insert(owner);
  EXPECT_EQ(used.size(), 8u);
  // With a moderate load, which is not even.
  for (uint64_t number = 0; number < 8; ++number) {
    for (uint64_t i = 0; i < number % 4; ++i) Give(number);
  }
  for (const auto& [session, owner] : owners) EXPECT_EQ(Choose(GetParam(), session), owner);
  // Its group goes: only its own sessions move.
  const uint64_t lost = owners.at("s0");
  groups_.at(lost).state = GroupState::kDraining;
  for (const auto& [session, owner] : owners) {
    EXPECT_EQ(Choose(GetParam(), session) == owner, owner != lost);
  }
}

TEST_P(RouterTest, LeavesTheSessionsGroupWhereItHasFarMoreThanOthers) {
  const uint64_t own = Choose(GetParam(), "s").value();
  for (int i = 0; i < 60; ++i) Give(own);
  EXPECT_NE(Choose(GetParam(), "s"), own);
}

TEST_P(RouterTest, TakesTurnsWhenItIsOff) {
  std::vector<uint64_t> turns;
  for (int i = 0; i < 16; ++i) {
    turns.push_back(Choose(GetParam(), "s", /*active=*/false).value());
    Give(turns.back());
  }
  EXPECT_EQ(turns, (std::vector<uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7}));
}

INSTANTIATE_TEST_SUITE_P(Policies, RouterTest,
                         ::testing::Values(RoutingPolicy::kWlcSeed, RoutingPolicy::kMinresSeed,
                                           RoutingPolicy::kLeastConn,
                                           RoutingPolicy::kP2cLeastTokens,
                                           RoutingPolicy::kPrefixAware),
                         [](const auto& policy) { return std::string(ToString(policy.param)); });

using PrefixRouterTest = RouterTest;

TEST_F(PrefixRouterTest, GoesWhereItsPrefixIsUnlessThereIsMuchToDo) {
  prompt_.assign(400, 5);
  const std::vector<uint64_t> hashes = PrefixHashes(salt_, prompt_);
  ASSERT_EQ(hashes.size(), 12u);
  groups_.at(5).prefixes.Apply({.full = true, .added = hashes});
  groups_.at(2).prefixes.Apply({.full = true, .added = {hashes.begin(), hashes.begin() + 4}});
  EXPECT_EQ(Choose(RoutingPolicy::kPrefixAware), 5u);
  // Of another salt nothing is known, and another policy does not ask.
  salt_ = "tenant";
  EXPECT_EQ(Choose(RoutingPolicy::kPrefixAware), 0u);
  salt_.clear();
  EXPECT_EQ(Choose(RoutingPolicy::kLeastConn), 0u);
  // A block in between is gone: what comes after it is of no use.
  groups_.at(5).prefixes.Apply({.removed = {hashes[1]}});
  EXPECT_EQ(Choose(RoutingPolicy::kPrefixAware), 2u);
  groups_.at(2).Give(99, {.tokens = 1'000});
  EXPECT_EQ(Choose(RoutingPolicy::kPrefixAware), 5u);
  groups_.at(5).Give(98, {.tokens = 1'000});
  EXPECT_EQ(Choose(RoutingPolicy::kPrefixAware), 0u);
}

// A better class takes the place of worse ones, so it goes where it finds least of its like.
TEST_P(RouterTest, CountsOnlyWhatDoesNotGiveWay) {
  for (auto& [number, group] : groups_) {
    const bool worse = number == 3;
    for (uint64_t i = 0; i < (worse ? 20 : 2); ++i) {
      group.Give(100 * number + i, {worse ? ServiceClass::kSheddable : ServiceClass::kCritical,
                                    worse ? 10'000 : 100});
    }
  }
  // Of two that are drawn it is one in four times; those that ask nothing else always take it.
  int taken = 0;
  for (int i = 0; i < 400; ++i) taken += Choose(GetParam()) == 3u ? 1 : 0;
  EXPECT_GE(taken, GetParam() == RoutingPolicy::kP2cLeastTokens ? 60 : 400);
}

TEST(KnownPrefixes, ForgetEverythingThatIsTooMuchUntilItIsReportedAnew) {
  KnownPrefixes known;
  PrefixReport report{.full = true};
  for (uint64_t hash = 0; hash < KnownPrefixes::kMax; ++hash) report.added.push_back(hash);
  known.Apply(report);
  EXPECT_EQ(known.size(), KnownPrefixes::kMax);
  const std::vector<uint64_t> asked = {0, 1, 2};
  EXPECT_EQ(known.ExpectedTokens(asked), 3 * kPrefixBlockTokens);
  known.Apply({.added = {UINT64_MAX}});
  EXPECT_EQ(known.size(), 0u);
  known.Apply({.added = {0}});
  EXPECT_EQ(known.ExpectedTokens(asked), 0);
  known.Apply({.full = true, .added = {0, 2}});
  EXPECT_EQ(known.ExpectedTokens(asked), kPrefixBlockTokens);
}

TEST(GroupLoad, CountsWorkFromTheMomentThatItIsGiven) {
  GroupLoad load;
  constexpr auto kAll = ServiceClass::kSheddable;
  load.Give(1, {ServiceClass::kCritical, 100});
  load.Give(2, {ServiceClass::kSheddablePlus, 50});
  EXPECT_EQ(load.WorkTokens(kAll), 150);
  EXPECT_EQ(load.WorkTokens(ServiceClass::kCritical), 100) << "what is worse gives way";
  EXPECT_EQ(load.CountStreams(ServiceClass::kCritical), 1u);
  load.SetWork(1, 60);
  EXPECT_EQ(load.WorkTokens(kAll), 110);
  load.Forget(1);
  load.Forget(7);
  EXPECT_EQ(load.WorkTokens(kAll), 50);
  EXPECT_EQ(load.WorkTokens(ServiceClass::kCritical), 0);
  load.Forget(2);
  EXPECT_EQ(load.WorkTokens(kAll), 0);
  EXPECT_EQ(load.last_given(), 2u);
}

TEST(GroupLoad, MeasuresShareAndPaceByTheReports) {
  GroupLoad load;
  SchedulerStats stats{.steps_total = 1'000, .busy_us_total = 5'000'000};
  TimeNs now = kNow;
  load.Learn(stats, now);
  EXPECT_FALSE(load.pace());
  for (int i = 0; i < 20; ++i) {  // Busy a quarter of the time, 5 ms a step, 10 rows in each.
    now += 100 * kMillisecondNs;
    stats.steps_total += 5;
    stats.generated_tokens_total += 50;
    stats.busy_us_total += 25'000;
    load.Learn(stats, now);
  }
  EXPECT_NEAR(load.BusyShare(now), 0.25, 0.01);
  ASSERT_TRUE(load.pace());
  EXPECT_NEAR(load.pace()->step_us, 5'000, 1);
  EXPECT_NEAR(load.pace()->row_us, 500, 1);
  // A group that is idle reports nothing: its share falls with time.
  EXPECT_LT(load.BusyShare(now + 10 * kSecondNs), 0.03);
  // Another process counts from 0.
  load.Learn({.steps_total = 1, .busy_us_total = 10}, now + 11 * kSecondNs);
  EXPECT_NEAR(load.pace()->step_us, 5'000, 1);
}

}  // namespace
}  // namespace shoal::core
