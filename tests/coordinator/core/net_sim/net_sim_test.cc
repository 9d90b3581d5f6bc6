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

constexpr uint64_t kSeeds = 2'400;

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

TEST(NetSim, KeepsItsPromisesUnderEverySeed) {
  const PlantedBug bug = AskedBug();
  const std::optional<uint64_t> only = Variable("SHOAL_SIM_SEED");
  const uint64_t first = only ? *only : Variable("SHOAL_SIM_FIRST").value_or(0);
  const uint64_t count = only ? 1 : Variable("SHOAL_SIM_SEEDS").value_or(kSeeds);
  Counters counters;
  int64_t virtual_ms = 0;
  int64_t events = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Simulation simulation(seed, bug);
    const std::string violation = simulation.Run();
    counters.Add(simulation.counters());
    virtual_ms += simulation.virtual_ms();
    events += simulation.events();
    if (violation.empty()) {
      if (only) std::cout << TraceOf(seed, bug);
      continue;
    }
    ADD_FAILURE() << "seed " << seed << ": " << violation << "\nAgain: SHOAL_SIM_SEED=" << seed
                  << " build/release/bin/coordinator_net_sim_test\n"
                  << TraceOf(seed, bug);
    break;
  }
  const std::chrono::duration<double> real = std::chrono::steady_clock::now() - begin;
  std::cout << Str(count, " seeds, ", static_cast<double>(count) / real.count(), " a second; ",
                   virtual_ms / 1'000, " virtual s in ", real.count(),
                   " s: ", static_cast<double>(virtual_ms) / 1'000 / real.count(), " x real time; ",
                   events, " events\n");
  if (only || HasFailure()) return;
  std::cout << Str("streams ", counters.streams, ", ended ", counters.ended, ", failed ",
                   counters.failed, ", cancelled ", counters.cancelled, ", continued ",
                   counters.continued, ", trimmed ", counters.trimmed, ", detached ",
                   counters.detached, ", resumed ", counters.resumed, " (recomputed ",
                   counters.recomputed, "), adopted ", counters.adopted, "; groups lost ",
                   counters.groups_lost, ", drained ", counters.drained, ", ranks rejoined ",
                   counters.rejoined, ", coordinators ", counters.restarts, "\n");
}

}  // namespace
}  // namespace shoal::core::net_sim
