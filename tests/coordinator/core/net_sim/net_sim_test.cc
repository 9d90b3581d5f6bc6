// A region in a cluster whose network, ranks, coordinators and clients fail in every way that they
// can, on a virtual clock and under one seed at a time. Each seed draws its own mix of faults.
//
// Variables: SHOAL_SIM_SEED runs one seed and prints what happens in it; SHOAL_SIM_SEEDS how many
// are run; SHOAL_SIM_FIRST where they begin; SHOAL_SIM_BUG plants a mistake by its name.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>

#include "tests/coordinator/core/net_sim/simulation.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {
namespace {

constexpr uint64_t kSeedsToFind = 240;  // Each planted bug.
constexpr int kFailuresMax = 20;        // Then no more seeds are run.

std::optional<uint64_t> Variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

PlantedBug BugOf(const std::string& name) {
  for (int i = 0; i < kPlantedBugs; ++i) {
    if (name == ToString(static_cast<PlantedBug>(i))) return static_cast<PlantedBug>(i);
  }
  return PlantedBug::kNone;
}

PlantedBug AskedBug() {
  const char* name = std::getenv("SHOAL_SIM_BUG");
  return name == nullptr ? PlantedBug::kNone : BugOf(name);
}

std::string TraceOf(uint64_t seed, PlantedBug bug) {
  Simulation simulation(seed, bug);
  simulation.Trace();
  simulation.Run();
  std::string text;
  for (const std::string& line : simulation.trace()) text += line + "\n";
  return text;
}

// A promise that was never put to the test is not kept but idle.
void ExpectAllCameAbout(const Counters& counters) {
  const int64_t often = kSeedsInCi / 100;
  for (int i = 0; i < kFaults; ++i) {
    EXPECT_GT(counters.faults[i], often) << ToString(static_cast<Fault>(i));
  }
  // A group must be slow for long, and its peers at work, before it is left out for that.
  const int64_t seldom = kSeedsInCi / 1'000;
  for (const auto& [name, counter] : kCounters) {
    const bool is_rare = counter == &Counters::slow_ejected;
    EXPECT_GE(counters.*counter, is_rare ? seldom : often + 1) << name;
  }
  for (const BusyReason reason :
       {BusyReason::kQueueFull, BusyReason::kNoGroup, BusyReason::kTooLarge,
        BusyReason::kQuotaExceeded, BusyReason::kDeadlineUnreachable, BusyReason::kBreakerOpen}) {
    EXPECT_GT(counters.refusals[static_cast<int>(reason)], often) << ToString(reason);
  }
}

TEST(NetSim, KeepsItsPromisesUnderEverySeed) {
  const PlantedBug bug = AskedBug();
  const std::optional<uint64_t> only = Variable("SHOAL_SIM_SEED");
  const uint64_t first = only ? *only : Variable("SHOAL_SIM_FIRST").value_or(0);
  const uint64_t count = only ? 1 : Variable("SHOAL_SIM_SEEDS").value_or(kSeedsInCi);
  Counters counters;
  int64_t virtual_ms = 0;
  int64_t events = 0;
  int failures = 0;
  std::string trace;
  const auto begin = std::chrono::steady_clock::now();
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Simulation simulation(seed, bug);
    const std::string violation = simulation.Run();
    counters.Add(simulation.counters());
    virtual_ms += simulation.virtual_ms();
    events += simulation.events();
    if (violation.empty()) {
      if (only) trace = TraceOf(seed, bug);
      continue;
    }
    ADD_FAILURE() << "seed " << seed << ": " << violation << "\nAgain: SHOAL_SIM_SEED=" << seed
                  << " build/release/bin/coordinator_net_sim_test";
    if (++failures == 1) trace = TraceOf(seed, bug);
    if (failures == kFailuresMax) break;
  }
  const std::chrono::duration<double> real = std::chrono::steady_clock::now() - begin;
  std::cout << Str(count, " seeds, ", static_cast<double>(count) / real.count(), " a second; ",
                   virtual_ms / 1'000, " virtual s in ", real.count(),
                   " s: ", static_cast<double>(virtual_ms) / 1'000 / real.count(), " x real time; ",
                   events, " events\n");
  std::cout << trace;
  if (only || HasFailure()) return;
  std::cout << counters << "\n";
  if (count >= kSeedsInCi) ExpectAllCameAbout(counters);
}

TEST(NetSim, DoesTheSameAgainUnderTheSameSeed) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(TraceOf(seed, PlantedBug::kNone), TraceOf(seed, PlantedBug::kNone));
  }
}

class NetSimPlantedBug : public ::testing::TestWithParam<int> {};

// And by a seed that finds nothing without it.
TEST_P(NetSimPlantedBug, IsFound) {
  const auto bug = static_cast<PlantedBug>(GetParam());
  for (uint64_t seed = 0; seed < kSeedsToFind; ++seed) {
    const std::string violation = Simulation(seed, bug).Run();
    if (violation.empty()) continue;
    std::cout << Str(ToString(bug), ": seed ", seed, ": ", violation, "\n");
    EXPECT_EQ(Simulation(seed).Run(), "") << "seed " << seed;
    return;
  }
  FAIL() << ToString(bug) << " is not found by any of " << kSeedsToFind << " seeds";
}

INSTANTIATE_TEST_SUITE_P(All, NetSimPlantedBug, ::testing::Range(1, kPlantedBugs),
                         [](const auto& info) {
                           return std::string(ToString(static_cast<PlantedBug>(info.param)));
                         });

}  // namespace
}  // namespace shoal::core::net_sim
