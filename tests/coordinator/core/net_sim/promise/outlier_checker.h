#pragma once

// Which groups must be left out of routing by what became of their sequences, seen from outside.

#include <cstdint>
#include <map>
#include <set>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/world/group.h"

namespace shoal::core::net_sim {

class OutlierChecker {
 public:
  // It outlives it.
  explicit OutlierChecker(Context& context) : context_(context) {}

  void NewRegion() { entries_.clear(), panics_.clear(); }
  // A group is another one than before under that number.
  void Forget(uint64_t number) { entries_.erase(number); }
  // It ended a sequence, well or badly. `sure`: as BreakerChecker's.
  void Ended(uint64_t number, const FakeGroup& group, bool well, bool sure);
  // It was given a stream.
  void Given(uint64_t number, const Region& region);
  // Time has passed: before the region looks, and after all that came of it.
  void Ticks();
  void Ticked(uint64_t number, const FakeGroup& group, const Region& region);
  void SettleTick(const Region& region);
  // Which keys have too few groups left: after every event, because the region looks now and then.
  void Settle(const Region& region);

 private:
  enum class State : uint8_t { kIn, kOut, kTried };
  struct Entry {
    State state = State::kIn;
    // What it did is not known well enough to say anything of it.
    bool doubtful = false;
    int32_t in_row = 0;
    int32_t errors = 0;
    int32_t successes = 0;
    TimeNs window = 0;
    int32_t ejections = 0;
    TimeNs changed = 0;
    TimeNs out_until = 0;
  };

  void Eject(Entry& entry);
  void NoteError(Entry& entry);
  // Whether all groups of that key may be used, or it cannot be told.
  bool MayUseAll(const ModelKey& key, const Region& region) const;

  Context& context_;
  std::map<uint64_t, Entry> entries_;  // By number; none: nothing has happened to it.
  std::set<ModelKey> panics_;          // At some time since the last tick.
};

}  // namespace shoal::core::net_sim
