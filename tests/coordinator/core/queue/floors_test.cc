// Floors: what better classes and other tenants cannot take.

#include <gtest/gtest.h>

#include <map>

#include "coordinator/core/queue/capacity_refusals.h"
#include "coordinator/core/queue/fair_queue.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using enum ServiceClass;

// Always has a request of each of those waiting, also when one was served. Result: tokens served by
// tenant, of `total`.
std::map<std::string, int64_t> ServeBusy(FairQueue& queue, const std::vector<WaitingStream>& kinds,
                                         int64_t total) {
  std::map<std::string, int64_t> served;
  uint64_t arrival = 0;
  const auto add = [&](const std::string& tenant) {
    for (WaitingStream kind : kinds) {
      if (kind.tenant != tenant) continue;
      kind.arrival = ++arrival;
      queue.Add(kind);
    }
  };
  for (const WaitingStream& kind : kinds) {
    for (int i = 0; i < 2; ++i) add(kind.tenant);
  }
  for (int64_t sum = 0; sum < total;) {
    const WaitingStream next = *queue.Next();
    queue.Serve(next.arrival);
    served[next.tenant] += next.tokens;
    sum += next.tokens;
    add(next.tenant);
  }
  return served;
}

TEST(Floors, GiveALowClassItsShareUnderAFloodOfBetterOnes) {
  FairQueue queue;
  queue.Configure({.floor_shares = {0, 0, 0.1, 0.05}});
  auto served = ServeBusy(queue,
                          {{.tenant = "best", .service_class = kCriticalPlus, .tokens = 70},
                           {.tenant = "good", .service_class = kCritical, .tokens = 10},
                           {.tenant = "low", .service_class = kSheddablePlus, .tokens = 400},
                           {.tenant = "lowest", .service_class = kSheddable, .tokens = 90}},
                          1'000'000);
  EXPECT_NEAR(static_cast<double>(served["lowest"]), 50'000, 200);
  EXPECT_NEAR(static_cast<double>(served["low"]), 100'000, 900);
  EXPECT_EQ(served["good"], 0) << "it has no floor";
}

TEST(Floors, GiveATenantItsShareHoweverManyComeBeforeIt) {
  FairQueue queue;
  std::vector<WaitingStream> kinds = {
      {.tenant = "mine", .service_class = kSheddable, .floor_share = 0.2, .tokens = 333}};
  for (int i = 0; i < 50; ++i) {
    kinds.push_back({.tenant = Str("best ", i), .service_class = kCriticalPlus, .tokens = 100});
  }
  auto served = ServeBusy(queue, kinds, 1'000'000);
  EXPECT_NEAR(static_cast<double>(served["mine"]), 200'000, 700);
}

TEST(Floors, ChangeNothingWhileTheirShareIsServedAnyway) {
  FairQueue queue;
  queue.Configure({.floor_shares = {0.3, 0, 0, 0}});
  auto served = ServeBusy(queue,
                          {{.tenant = "a", .service_class = kCriticalPlus, .tokens = 50},
                           {.tenant = "b", .service_class = kCriticalPlus, .tokens = 50},
                           {.tenant = "c", .service_class = kCritical, .tokens = 50}},
                          100'000);
  EXPECT_EQ(served["c"], 0);
  EXPECT_NEAR(static_cast<double>(served["a"]), 50'000, 100);
}

// A floor is for who waits: nothing is saved up while nobody does, or while it is served anyway.
TEST(Floors, SaveNothingUp) {
  FairQueue queue;
  queue.Configure({.floor_shares = {0, 0, 0, 0.1}});
  ServeBusy(queue, {{.tenant = "best", .service_class = kCritical, .tokens = 100}}, 1'000'000);
  for (uint64_t i = 0; i < 4; ++i) {
    queue.Add({.arrival = 1'000'000 + i, .tenant = "l", .service_class = kSheddable, .tokens = 9});
  }
  EXPECT_EQ(queue.Next()->service_class, kCritical);
}

TEST(CapacityRefusals, KeepWorseClassesOutForAWhile) {
  const ModelKey key{"toy", "1"};
  CapacityRefusals refusals;
  refusals.Note(key, kCritical, 0);
  EXPECT_EQ(refusals.FindBetter(key, kSheddable, kSecondNs - 1), kCritical);
  EXPECT_EQ(refusals.FindBetter(key, kCritical, 0), std::nullopt);
  EXPECT_EQ(refusals.FindBetter({"toy", "2"}, kSheddable, 0), std::nullopt);
  EXPECT_EQ(refusals.FindBetter(key, kSheddable, kSecondNs), std::nullopt);
}

}  // namespace
}  // namespace shoal::core
