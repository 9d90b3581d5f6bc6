// FairQueue: who is next, who goes, and what it costs to know.

#include "coordinator/core/queue/fair_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using enum ServiceClass;

constexpr std::array<size_t, kServiceClasses> kNoneKept{};

// Names streams by their arrival.
WaitingStream Make(uint64_t arrival, const std::string& tenant, ServiceClass service_class,
                   int64_t tokens = 100) {
  return {.stream = {0, arrival},
          .arrival = arrival,
          .tenant = tenant,
          .service_class = service_class,
          .tokens = tokens};
}

std::vector<uint64_t> ServeAll(FairQueue& queue) {
  std::vector<uint64_t> served;
  while (const WaitingStream* next = queue.Next()) {
    served.push_back(next->arrival);
    queue.Serve(next->arrival);
  }
  return served;
}

TEST(FairQueue, ServesBetterClassesFirst) {
  FairQueue queue;
  queue.Add(Make(1, "a", kSheddable));
  queue.Add(Make(2, "a", kCritical));
  queue.Add(Make(3, "b", kSheddablePlus));
  queue.Add(Make(4, "b", kCriticalPlus));
  EXPECT_EQ(queue.Next(kCriticalPlus)->arrival, 4u);
  EXPECT_THAT(ServeAll(queue), ElementsAre(4, 2, 3, 1));
  EXPECT_TRUE(queue.empty());
}

TEST(FairQueue, GivesNobodyATurnOfAClassThatHasNoPlace) {
  FairQueue queue;
  queue.Add(Make(1, "a", kSheddable));
  EXPECT_EQ(queue.Next(kSheddablePlus), nullptr);
  EXPECT_EQ(queue.Next(kSheddable)->arrival, 1u);
}

TEST(FairQueue, ServesATenantByPriorityThenArrival) {
  FairQueue queue;
  for (uint64_t i = 1; i <= 4; ++i) {
    WaitingStream stream = Make(i, "a", kCritical);
    stream.priority = i == 3 ? -1 : 0;
    queue.Add(stream);
  }
  EXPECT_THAT(ServeAll(queue), ElementsAre(3, 1, 2, 4));
}

TEST(FairQueue, TakesTenantsInTurnsHoweverManyRequestsEachHas) {
  FairQueue queue;
  for (uint64_t i = 1; i <= 5; ++i) queue.Add(Make(i, "many", kCritical));
  queue.Add(Make(6, "one", kCritical));
  queue.Add(Make(7, "two", kCritical));
  queue.Add(Make(8, "two", kCritical));
  EXPECT_THAT(ServeAll(queue), ElementsAre(1, 6, 7, 2, 8, 3, 4, 5));
}

TEST(FairQueue, ServesFirstInItsClassWhatHadAGroupBeforeAndChargesItNothing) {
  FairQueue queue;
  queue.Add(Make(1, "a", kCritical, 1'000));
  queue.Add(Make(2, "b", kCritical, 1'000));
  queue.Add(Make(3, "a", kSheddable));
  for (uint64_t arrival : {4, 5}) {
    WaitingStream parked = Make(arrival, "a", arrival == 4 ? kCritical : kSheddable, 100'000);
    parked.parked = true;
    queue.Add(parked);
  }
  EXPECT_EQ(queue.fresh(), 3u);
  EXPECT_THAT(ServeAll(queue), ElementsAre(4, 1, 2, 5, 3));
}

// Of tenants that always have something waiting, each gets its weight's share of the tokens, to
// within a request and a turn, however long its requests are.
TEST(FairQueue, SharesTokensByWeight) {
  FairQueue queue;
  std::mt19937_64 random(27);
  const std::vector<double> weights = {1, 1, 2.5, 7, 0.25};
  constexpr int64_t kLongest = 4'000;
  std::vector<int64_t> served(weights.size());
  uint64_t arrival = 0;
  const auto add = [&](size_t i) {
    // The tenants' lengths differ, as a bound on each: what counts is tokens, not requests.
    const int64_t tokens = 1 + static_cast<int64_t>(random() % (kLongest >> (i * 2)));
    WaitingStream stream = Make(++arrival, Str(i), kCritical, tokens);
    stream.weight = weights[i];
    queue.Add(stream);
  };
  for (size_t i = 0; i < weights.size(); ++i) {
    for (int n = 0; n < 3; ++n) add(i);
  }
  for (int step = 0; step < 20'000; ++step) {
    const WaitingStream next = *queue.Next();
    queue.Serve(next.arrival);
    const size_t tenant = std::stoul(next.tenant);
    served[tenant] += next.tokens;
    add(tenant);
    for (size_t i = 0; i < weights.size(); ++i) {
      const double mine = static_cast<double>(served[i]) / weights[i];
      const double first = static_cast<double>(served[0]) / weights[0];
      const double bound = kLongest / weights[0] + kLongest / weights[i] + 2 * 64;
      ASSERT_LE(std::abs(mine - first), bound) << "tenant " << i << " after " << step;
    }
  }
}

TEST(FairQueue, CountsWhatWasNotUsedAsNotServed) {
  FairQueue queue;
  uint64_t arrival = 0;
  std::map<std::string, int> served;
  for (int i = 0; i < 2'000; ++i) {
    queue.Add(Make(++arrival, "brief", kCritical, 1'000));
    queue.Add(Make(++arrival, "long", kCritical, 1'000));
  }
  for (int i = 0; i < 1'000; ++i) {
    const WaitingStream next = *queue.Next();
    queue.Serve(next.arrival);
    ++served[next.tenant];
    if (next.tenant == "brief") queue.GiveBack(next.tenant, kCritical, 750);
  }
  EXPECT_NEAR(served["brief"], 800, 5) << "a quarter of the work each: four for one";
}

TEST(FairQueue, PassesOverWhatIsSetAsideUntilItIsRestored) {
  FairQueue queue;
  for (uint64_t i = 1; i <= 3; ++i) queue.Add(Make(i, "a", kCritical));
  WaitingStream parked = Make(4, "b", kCritical);
  parked.parked = true;
  queue.Add(parked);
  for (uint64_t arrival : {4, 1, 2}) {
    EXPECT_EQ(queue.Next()->arrival, arrival);
    queue.SetAside(arrival);
  }
  EXPECT_EQ(queue.Next()->arrival, 3u);
  queue.Serve(3);
  EXPECT_EQ(queue.Next()->arrival, 1u) << "what was served of a tenant may have changed its order";
  queue.SetAside(1);
  queue.SetAside(2);
  EXPECT_EQ(queue.Next(), nullptr);
  EXPECT_TRUE(queue.Remove(2));
  queue.Restore();
  EXPECT_THAT(ServeAll(queue), ElementsAre(4, 1));
}

TEST(FairQueue, IsOneLineWithoutFairness) {
  FairQueue queue;
  queue.Configure({.fair = false});
  queue.Add(Make(1, "a", kSheddable));
  queue.Add(Make(3, "a", kCriticalPlus));
  queue.Add(Make(2, "b", kCritical));
  EXPECT_EQ(queue.FindVictim({.tenant = "c", .service_class = kCriticalPlus}, kNoneKept),
            std::nullopt);
  EXPECT_THAT(ServeAll(queue), ElementsAre(1, 2, 3));
  // But for what had a group: that goes on first, and fills nobody's queue.
  queue.Add(Make(4, "a", kSheddable));
  WaitingStream parked = Make(5, "b", kSheddable);
  parked.parked = true;
  queue.Add(parked);
  EXPECT_EQ(queue.fresh(), 1u);
  EXPECT_THAT(ServeAll(queue), ElementsAre(5, 4));
}

TEST(FairQueue, GivesUpTheNewestOfTheWorstClassForABetterOneRetriesFirst) {
  FairQueue queue;
  const auto victim = [&](ServiceClass service_class, bool retry = false) {
    const auto found = queue.FindVictim(
        {.tenant = "new", .service_class = service_class, .retry = retry}, kNoneKept);
    return found ? found->low : 0;
  };
  queue.Add(Make(1, "a", kCritical));
  EXPECT_EQ(victim(kCritical), 0u) << "nobody is worse";
  EXPECT_EQ(victim(kSheddable), 0u);
  WaitingStream retry = Make(2, "a", kSheddable);
  retry.retry = true;
  queue.Add(retry);
  queue.Add(Make(3, "a", kSheddable));
  queue.Add(Make(4, "a", kSheddable));
  WaitingStream parked = Make(5, "a", kSheddable);
  parked.parked = true;
  queue.Add(parked);
  EXPECT_EQ(victim(kCriticalPlus), 2u) << "the retry";
  EXPECT_EQ(victim(kSheddable), 2u) << "for a first attempt of its own class, too";
  EXPECT_EQ(victim(kSheddable, true), 0u) << "but not for another retry";
  queue.Remove(2);
  EXPECT_EQ(victim(kSheddablePlus), 4u) << "then the newest; what had a group before stays";
  const std::string tenant = "new";
  EXPECT_EQ(queue.FindVictim({.tenant = tenant, .service_class = kCriticalPlus}, {0, 0, 0, 2})->low,
            1u)
      << "two places are kept for the lowest class: the next one gives";
}

TEST(FairQueue, GivesUpTheNewestOfTheTenantThatHasTheMostForItsWeight) {
  FairQueue queue;
  for (uint64_t i = 1; i <= 4; ++i) {
    WaitingStream heavy = Make(i, "heavy", kCritical);
    heavy.weight = 4;
    queue.Add(heavy);
  }
  for (uint64_t i = 5; i <= 7; ++i) queue.Add(Make(i, "flood", kCritical));
  const std::string fresh = "fresh";
  const std::string flood = "flood";
  EXPECT_EQ(queue.FindVictim({.tenant = fresh}, kNoneKept)->low, 7u);
  EXPECT_EQ(queue.FindVictim({.tenant = flood}, kNoneKept), std::nullopt);
  queue.Remove(6);
  queue.Remove(7);
  EXPECT_EQ(queue.FindVictim({.tenant = fresh}, kNoneKept), std::nullopt) << "each has its share";
}

// What is looked at for a decision does not grow with the number of tenants, whatever their
// requests cost.
TEST(FairQueue, LooksAtAFewForADecisionAmongTenThousandTenants) {
  FairQueue queue;
  queue.Configure({.floor_shares = {0, 0, 0, 0.05}});
  std::mt19937_64 random(10'000);
  uint64_t arrival = 0;
  const auto add = [&](size_t tenant) {
    WaitingStream stream = Make(++arrival, Str("tenant ", tenant),
                                static_cast<ServiceClass>(random() % kServiceClasses),
                                static_cast<int64_t>(1 + random() % 100'000));
    stream.weight = 0.001 * static_cast<double>(1 + random() % 100'000);
    stream.floor_share = tenant % 2 == 0 ? 0.00001 : 0;
    queue.Add(stream);
  };
  for (size_t i = 0; i < 10'000; ++i) add(i);
  for (int i = 0; i < 20'000; ++i) {
    const int64_t before = queue.looks();
    const uint64_t next = queue.Next()->arrival;
    queue.Serve(next);
    ASSERT_LE(queue.looks() - before, 30);
    add(random() % 10'000);
  }
}

TEST(FairQueueDeathTest, AbortsWhenAnArrivalComesTwice) {
  FairQueue queue;
  queue.Add(Make(1, "a", kCritical));
  EXPECT_DEATH(queue.Add(Make(1, "a", kCritical)), "arrival 1 waits already");
}

}  // namespace
}  // namespace shoal::core
