#pragma once

// Which groups are left out of routing because they fail, or are much slower than their peers.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/guard/guard_rules.h"
#include "coordinator/core/record/record.h"
#include "transport/base/clock.h"

namespace shoal::core {

// A group that fails is out for a while; then it is tried with one request at a time, and when one
// has gone well it comes back, with a share that grows. Where more than their share would be out,
// all are used, because the fault is then rather elsewhere. Threading: none; owned by Guard.
class Outliers {
 public:
  explicit Outliers(OutlierRules rules);

  // From now on; a group that is out stays so for as long as it was told.
  void Configure(OutlierRules rules) { rules_ = rules; }

  void NoteSuccess(uint64_t group, const GroupMap& groups, TimeNs now);
  void NoteError(uint64_t group, const GroupMap& groups, TimeNs now);
  void Forget(uint64_t group) { entries_.erase(group); }
  void Tick(const GroupMap& groups, TimeNs now);

  // As Guard's.
  double ShareOf(uint64_t group, TimeNs now) const;
  std::optional<size_t> GivenMax(uint64_t group) const;
  // What has become of groups since the last call.
  std::vector<Record> TakeRecords();
  // Those that were left out since the last call because they are slow.
  std::vector<uint64_t> TakeSlow();
  bool has_records() const { return !records_.empty(); }

 private:
  enum class State : uint8_t { kIn, kOut, kTried };
  struct Entry {
    State state = State::kIn;
    bool ignored = false;  // Too many of its key are out: it is used all the same.
    int32_t errors_in_row = 0;
    int32_t errors = 0;  // Since window_since.
    int32_t successes = 0;
    TimeNs window_since = 0;
    int32_t ejections = 0;  // Forgotten one by one while it does well.
    TimeNs changed = 0;     // When it went out or came back, or an ejection was forgotten.
    TimeNs out_until = 0;
    std::optional<TimeNs> returned{};    // While its share grows.
    std::optional<TimeNs> slow_since{};  // Without a break.
  };

  void Eject(uint64_t number, Entry& entry, Record record, TimeNs now);
  void TickEntry(Entry& entry, TimeNs now) const;
  void TickSlow(const GroupMap& groups, TimeNs now);
  // How many times slower it is than its peers, at least; none: it cannot be said.
  std::optional<double> Slowness(const Group& group, const GroupMap& groups, TimeNs now) const;
  bool IsOut(uint64_t group) const;
  // Of a key: groups that are ready, and of those the ones that are out.
  struct Count {
    int64_t ready = 0;
    int64_t out = 0;
  };
  std::map<ModelKey, Count> CountOut(const GroupMap& groups) const;
  // Decides for which keys too many are out.
  void Settle(const GroupMap& groups);

  OutlierRules rules_;
  std::map<uint64_t, Entry> entries_;  // By group; none: nothing has happened to it.
  std::set<ModelKey> panics_;
  std::vector<Record> records_;
  std::vector<uint64_t> slow_;
};

}  // namespace shoal::core
