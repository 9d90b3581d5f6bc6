#pragma once

// Breakers, and groups that are left out of routing because they fail or are slow.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/guard/breaker.h"
#include "coordinator/core/guard/guard_metrics.h"
#include "coordinator/core/guard/guard_rules.h"
#include "coordinator/core/guard/outliers.h"
#include "coordinator/core/record/record.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// Threading: none; owned by Region.
class Guard {
 public:
  // `active`: whether it does anything at all (Protections).
  Guard(GuardRules rules, bool active);

  // The rules are read again. A breaker whose rule is the same goes on as it is; one that is gone
  // closes; a new one begins closed.
  void Configure(GuardRules rules);

  // Why no request of that class is taken now. None: it may be.
  std::optional<StreamError> FindRefusal(ServiceClass service_class, TimeNs now) const;
  // The breaker that refuses it. Null: none does.
  const Breaker* FindOpen(ServiceClass service_class, TimeNs now) const;
  // Whether a breaker wants requests to be answered by less than they ask for.
  bool degrades() const;
  // In [0, 1]: the share of its usual load that a group gets. 0: it is left out.
  double ShareOf(uint64_t group, TimeNs now) const;
  // Group::given_max.
  std::optional<size_t> GivenMax(uint64_t group) const;

  // What a group did with a sequence that it was given.
  void NoteSuccess(uint64_t group, const GroupMap& groups, TimeNs now);
  void NoteError(uint64_t group, const GroupMap& groups, TimeNs now);
  void Forget(uint64_t group);
  // Time has passed. Readings::error_percent is the guard's own.
  void Tick(GuardReadings readings);

  // What it has decided since the last call, for people: groups ejected and back, panics, breakers.
  std::vector<Record> TakeRecords();
  // Groups that were left out since the last call because they are slow: their streams are to go
  // elsewhere. Those of a group that fails stay: each is as likely to end well as to be given up.
  std::vector<uint64_t> TakeSlow() { return outliers_.TakeSlow(); }
  bool has_records() const { return !records_.empty() || outliers_.has_records(); }
  std::vector<BreakerStatus> breakers() const;

 private:
  // What ended in a second of the last kErrorSeconds.
  struct Outcomes {
    int64_t second = -1;
    int64_t successes = 0;
    int64_t errors = 0;
  };
  static constexpr size_t kErrorSeconds = 10;

  Outcomes& OutcomesAt(TimeNs now);
  std::optional<double> ErrorPercent(TimeNs now) const;

  const bool active_;
  std::vector<Breaker> breakers_;
  Outliers outliers_;
  std::array<Outcomes, kErrorSeconds> outcomes_{};
  std::vector<Record> records_;
};

}  // namespace shoal::core
