#pragma once

// What all parts of a simulated cluster share: time, chance, what this seed's swarm is like, and
// the first promise that was found broken.

#include <cstdint>
#include <deque>
#include <string>

#include "tests/coordinator/core/net_sim/net/chance.h"
#include "tests/coordinator/core/net_sim/net/counters.h"
#include "tests/coordinator/core/net_sim/net/link.h"
#include "tests/coordinator/core/net_sim/net/overload.h"
#include "tests/coordinator/core/net_sim/net/virtual_loop.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

// A mistake that the region does not make, put between it and the world around it; each must be
// found.
enum class PlantedBug : uint8_t {
  kNone,
  kResumesOneTokenShort,  // The next group is told all tokens but the last.
  kTakesOldEpochs,        // What a group says is taken under its successor's epoch.
  kDoesNotTrim,           // What a leader tells again is taken for new.
  kLosesTwiceParked,    // A stream is forgotten when its second group dies before its first token.
  kUsesDrainingGroups,  // A group that is to end is given new streams.
  kForgetsRelease,      // Leaders are never told that they need not hold an ended stream.
  kForgetsDetached,     // A stream whose client went is kept for ever.
  kForgetsBoot,         // Epochs begin anew with every coordinator.
  kRepeatsPromptLogprobs,  // The next group is asked for them again.
  kCountsParked,           // Streams that lost their group fill the queue for new ones.
  kTicksForDeadlines,      // Nobody ends a stream at its deadline; the next tick does.
  kForgetsHeldDeadlines,   // What a leader hands over has none any more.
  kRefundsTwice,           // What a stream did not use is given back once more.
  kRefillsOnReload,        // Quotas are full again when the tenants file is read again.
  kTakesRetriesForFirst,   // Every attempt is counted as the first one.
  kKeepsTooMuch,           // Floors keep more of a full queue than they are to.
  kBreakerStaysOpen,       // A breaker that has opened never closes.
  kBreakerOpensEarly,      // Half of its threshold is enough.
  kKeepsFailing,           // Groups that fail are used on.
  kEjectsSound,            // A group is left out for being no faster than others.
  kServesWorseFirst,       // Worse classes have a share that nobody gave them.
  kForgetsInFlight,        // Tenants may have as many requests in flight as they like.
};
constexpr int kPlantedBugs = 23;
const char* ToString(PlantedBug bug);

// Drawn anew for every seed: which faults there are, how often, and how the region is set up.
struct Swarm {
  explicit Swarm(Chance& chance);

  void FavourContinuity(Chance& chance);
  void FavourOverload(Chance& chance);
  int64_t rate(Fault fault) const { return rates[static_cast<int>(fault)]; }

  int64_t rates[kFaults] = {};  // Shares; 0: this seed has none of them.
  int64_t fault_every_ms = 0;   // On average.
  int64_t chaos_ms = 0;         // How long there are faults and new requests.
  size_t keys = 1;
  int64_t groups_per_key = 1;
  int32_t ranks_max = 2;
  int64_t step_ms = 50;
  int64_t relaunch_ms_max = 3'000;
  int64_t request_every_ms = 200;  // On average.
  int64_t tokens_max = 40;
  double resumable = 0.5;  // Share of requests.
  double impatient = 0.1;  // Share of clients that cancel.
  double restless = 0.3;   // Share of clients that go, and come back if they may.
  LinkOptions link;
  bool managed = false;
  bool digests_known = true;  // Of canaries, before the first group has joined.
  int64_t heartbeat_ms = 250;
  int32_t heartbeats_missed_max = 6;
  int64_t progress_timeout_ms = 3'000;
  int64_t join_timeout_ms = 6'000;
  int64_t canary_interval_ms = 0;
  int64_t resume_timeout_ms = 5'000;
  int64_t rejoin_grace_ms = 200;
  int64_t orphan_grace_ms = 5'000;
  int64_t drain_timeout_ms = 3'000;
  int32_t queue_requests_max = 4;
  Overload overload;
};

struct Context {
  Context(uint64_t seed, PlantedBug planted) : chance(seed), swarm(chance), bug(planted) {}

  // The first one counts.
  void Violation(const std::string& what) {
    if (violation.empty()) violation = Str("at ", loop.now_ms() - 1'000, " ms: ", what);
  }
  template <typename... Parts>
  void Log(const Parts&... parts) {
    if (!tracing) return;
    trace.push_back(Str(loop.now_ms() - 1'000, " ms: ", parts...));
    if (trace.size() > kTraceLinesMax) trace.pop_front();
  }

  static constexpr size_t kTraceLinesMax = 400;
  Chance chance;
  Swarm swarm;
  PlantedBug bug;
  VirtualLoop loop;
  Counters counters;
  bool healing = false;  // No more faults; what hangs is healed.
  TimeNs woke = 0;       // When all went on after a time in which the coordinator did nothing.
  std::string violation;
  bool tracing = false;
  std::deque<std::string> trace;
};

}  // namespace shoal::core::net_sim
