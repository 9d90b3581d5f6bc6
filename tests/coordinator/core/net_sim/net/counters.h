#pragma once

// What goes wrong in a simulated cluster, and how often what came about.

#include <cstdint>
#include <ostream>
#include <utility>

#include "transport/base/generation/stream_error.h"

namespace shoal::core::net_sim {

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
  kFail,       // A group gives up what it was given, for a while.
};
constexpr int kFaults = 19;
const char* ToString(Fault fault);

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
  int64_t restarts = 0;      // Of the coordinator.
  int64_t refused_old = 0;   // Messages of an old epoch.
  int64_t canaries = 0;      // Through groups that were ready.
  int64_t joined = 0;        // Requests that got the answer of others.
  int64_t expired = 0;       // By their deadlines.
  int64_t reloads = 0;       // Of the tenants' policy.
  int64_t honest = 0;        // Requests that came again when they were told to, and were taken.
  int64_t angry = 0;         // Attempts of clients that came again at once.
  int64_t ejected = 0;       // Groups that failed too often, and were left out,
  int64_t returned = 0;      // came back,
  int64_t slow_ejected = 0;  // or were left out because they were slow.
  int64_t opened = 0;        // Breakers.
  int64_t half_opened = 0;
  int64_t closed = 0;
  int64_t preempted = 0;                // Sequences whose place in a step went to a better one.
  int64_t refusals[kBusyReasons] = {};  // At the door, by reason.
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
    {"canaries of ready groups", &Counters::canaries},
    {"joined", &Counters::joined},
    {"expired", &Counters::expired},
    {"reloads", &Counters::reloads},
    {"honest retries taken", &Counters::honest},
    {"angry attempts", &Counters::angry},
    {"preempted", &Counters::preempted},
    {"groups left out", &Counters::ejected},
    {"groups back", &Counters::returned},
    {"slow groups left out", &Counters::slow_ejected},
    {"breakers opened", &Counters::opened},
    {"half opened", &Counters::half_opened},
    {"closed", &Counters::closed}};

}  // namespace shoal::core::net_sim
