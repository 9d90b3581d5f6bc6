#include "tests/coordinator/core/net_sim/net/counters.h"

#include <iterator>

namespace shoal::core::net_sim {

namespace {

constexpr const char* kFaultNames[] = {"kill",    "stop",      "hang",   "confess",   "lie",
                                       "reset",   "half_open", "stall",  "partition", "slow",
                                       "crash",   "pause",     "jump",   "drain",     "term",
                                       "unsound", "poison",    "refuse", "fail"};
static_assert(std::size(kFaultNames) == kFaults);

}  // namespace

const char* ToString(Fault fault) { return kFaultNames[static_cast<int>(fault)]; }

void Counters::Add(const Counters& other) {
  for (const auto& [name, counter] : kCounters) this->*counter += other.*counter;
  for (int i = 0; i < kFaults; ++i) faults[i] += other.faults[i];
  for (int i = 0; i < kBusyReasons; ++i) refusals[i] += other.refusals[i];
}

std::ostream& operator<<(std::ostream& out, const Counters& counters) {
  for (const auto& [name, counter] : kCounters) out << name << " " << counters.*counter << ", ";
  out << "refusals:";
  for (int i = 0; i < kBusyReasons; ++i) {
    out << " " << ToString(static_cast<BusyReason>(i)) << " " << counters.refusals[i];
  }
  out << ", faults:";
  for (int i = 0; i < kFaults; ++i) {
    out << " " << ToString(static_cast<Fault>(i)) << " " << counters.faults[i];
  }
  return out;
}

}  // namespace shoal::core::net_sim
