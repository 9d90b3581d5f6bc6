#pragma once

// What all parts of a simulated cluster share: time, chance, what this seed's swarm is like, and
// the first promise that was found broken.

#include <cstdint>
#include <deque>
#include <ostream>
#include <string>
#include <utility>

#include "tests/coordinator/core/net_sim/net/chance.h"
#include "tests/coordinator/core/net_sim/net/link.h"
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
};
constexpr int kPlantedBugs = 11;
const char* ToString(PlantedBug bug);

enum class Fault : uint8_t {
  kKill,       // A rank dies.
  kStop,       // Ranks are stopped for 1, 8 or 60 s, then go on.
  kHang,       // Heartbeats, and no progress.
  kConfess,    // A rank says why it ends its group.
  kLie,        // A leader says what it must not say.
  kReset,      // One connection breaks.
  kHalfOpen,   // One connection breaks, and only one end knows.
  kStall,      // One connection carries nothing for a while, one way or both.
  kPartition,  // All connections of a group do.
  kSlow,       // Steps take ten times as long for a while.
  kCrash,      // The coordinator dies and is started again.
  kPause,      // The coordinator is stopped for a while.
  kJump,       // Everything is: virtual time jumps.
  kDrain,      // Somebody drains a group.
  kTerm,       // A leader is told to end, and drains itself.
  kUnsound,    // A group computes other bits.
  kPoison,     // A request brings down whoever works on it.
  kRefuse,     // A leader refuses a request.
};
constexpr int kFaults = 18;
const char* ToString(Fault fault);

// Drawn anew for every seed: which faults there are, how often, and how the region is set up.
struct Swarm {
  explicit Swarm(Chance& chance);

  void FavourContinuity(Chance& chance);
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
};

// What came about, so that nobody takes a quiet sea for a proof.
struct Counters {
  int64_t streams = 0;  // Taken.
  int64_t ended = 0;    // As their twins.
  int64_t failed = 0;   // With a reason that was allowed.
  int64_t cancelled = 0;
  int64_t continued = 0;  // Given to another group with tokens.
  int64_t trimmed = 0;    // Updates that told again what was known.
  int64_t detached = 0;
  int64_t resumed = 0;     // Clients that came back,
  int64_t recomputed = 0;  // and of those, whose stream nobody knew.
  int64_t adopted = 0;     // Streams that a leader handed over.
  int64_t rejoined = 0;    // Ranks that were taken back.
  int64_t groups_lost = 0;
  int64_t drained = 0;
  int64_t suspects = 0;
  int64_t restarts = 0;     // Of the coordinator.
  int64_t refused_old = 0;  // Messages of an old epoch.
  int64_t canaries = 0;     // Through groups that were ready.
  int64_t faults[kFaults] = {};

  void Add(const Counters& other);
};
std::ostream& operator<<(std::ostream& out, const Counters& counters);

// All but those of the faults.
inline constexpr std::pair<const char*, int64_t Counters::*> kCounters[] = {
    {"streams", &Counters::streams},
    {"ended", &Counters::ended},
    {"failed", &Counters::failed},
    {"cancelled", &Counters::cancelled},
    {"continued", &Counters::continued},
    {"trimmed", &Counters::trimmed},
    {"detached", &Counters::detached},
    {"resumed", &Counters::resumed},
    {"recomputed", &Counters::recomputed},
    {"adopted", &Counters::adopted},
    {"ranks rejoined", &Counters::rejoined},
    {"groups lost", &Counters::groups_lost},
    {"groups drained", &Counters::drained},
    {"suspects", &Counters::suspects},
    {"restarts", &Counters::restarts},
    {"refused as old", &Counters::refused_old},
    {"canaries of ready groups", &Counters::canaries}};

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
  std::string violation;
  bool tracing = false;
  std::deque<std::string> trace;
};

}  // namespace shoal::core::net_sim
