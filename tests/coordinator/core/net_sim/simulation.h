#pragma once

// One seed of a whole region: its coordinator, groups that somebody starts anew, clients, and what
// goes wrong; then everything heals, and what is left must come to its end.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/coordinator/core/net_sim/checker.h"
#include "tests/coordinator/core/net_sim/host.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/world/clients.h"
#include "tests/coordinator/core/net_sim/world/group.h"

namespace shoal::core::net_sim {

// Sanitizers take ten times as long for each.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeedsInCi = 240;
#else
constexpr uint64_t kSeedsInCi = 2'400;
#endif

class Simulation {
 public:
  explicit Simulation(uint64_t seed, PlantedBug bug = PlantedBug::kNone);
  ~Simulation();
  Simulation(const Simulation&) = delete;

  // Keeps the last of what happens, for people.
  void Trace() { context_.tracing = true; }
  // Result: the first promise that was broken; empty if none was.
  std::string Run();

  const Counters& counters() const { return context_.counters; }
  const std::deque<std::string>& trace() const { return context_.trace; }
  int64_t virtual_ms() const { return context_.loop.now_ms(); }
  int64_t events() const { return context_.loop.events_total(); }

 private:
  struct Slot {  // The place of one group among those that somebody starts.
    uint64_t number = 0;
    RankRegistration shape;
    std::shared_ptr<FakeGroup> group;
    bool launching = false;
  };

  static std::vector<RankRegistration> MakeShapes(const Swarm& swarm);
  RegionOptions MakeOptions() const;
  // False once a promise is broken.
  bool RunUntil(int64_t milliseconds);
  // As RunUntil, or until that holds.
  bool RunWhile(int64_t milliseconds, const std::function<bool()>& what);
  void Launch(Slot& slot);
  void LaunchAfter(Slot& slot, int64_t milliseconds);
  void ScheduleReload();
  void ScheduleFault();
  void InjectFault();
  void Inject(Fault fault, FakeGroup& group);
  void CutOff(FakeGroup& group, bool whole);
  void Heal();
  void StopRegion();
  std::string FindUnfinished();
  std::string FindHeld();

  Context context_;
  const std::vector<RankRegistration> shapes_;  // Of each key.
  Host host_;
  OverloadChecker overload_;
  Clients clients_;
  Checker checker_;
  std::vector<Slot> slots_;
  uint64_t next_group_id_ = 1;
};

}  // namespace shoal::core::net_sim
