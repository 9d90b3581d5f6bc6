#pragma once

// How much a group has to do, by what it was given, and how fast it does it, by what it reports.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "transport/base/clock.h"
#include "transport/base/overload/service_class.h"
#include "transport/base/scheduler_stats.h"

namespace shoal::core {

// What a group did in a while in which it was busy.
struct GroupPace {
  double step_us = 0;  // A step, which is a token more for each sequence that decodes.
  double row_us = 0;   // A row of a prompt, or a token.
  TimeNs time = 0;     // As of then.
};

// A stream's sequence that a group was given.
struct GivenWork {
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t tokens = 0;  // That it may still cost, prompt and answer.
};

// Work counts from the moment that it is given, whatever the group has reported since. A worse
// class gives its place to a better one, so it is no load to it. Plain data with the questions that
// only concern it.
class GroupLoad {
 public:
  // The sequence is new here.
  void Give(uint64_t sequence, const GivenWork& work);
  // What one that it has may still cost.
  void SetWork(uint64_t sequence, int64_t tokens);
  // It has ended there. Does nothing if it is not here: a canary's.
  void Forget(uint64_t sequence);
  void Learn(const SchedulerStats& stats, TimeNs now);

  // Of sequences of that class or better ones: their number, and what they may still cost together.
  size_t CountStreams(ServiceClass service_class) const;
  int64_t WorkTokens(ServiceClass service_class) const;
  const std::map<uint64_t, GivenWork>& work() const { return work_; }  // By sequence.
  uint64_t last_given() const { return last_given_; }  // The newest sequence; 0: none yet.
  // In [0, 1]: how much of the last second or more it had a step under way.
  double BusyShare(TimeNs now) const;
  const std::optional<GroupPace>& pace() const { return pace_; }  // None: unknown.

 private:
  std::map<uint64_t, GivenWork> work_;
  std::array<size_t, kServiceClasses> counts_{};   // Of `work_`, by class.
  std::array<int64_t, kServiceClasses> tokens_{};  // Likewise.
  uint64_t last_given_ = 0;
  std::optional<SchedulerStats> newest_;
  // The two windows that are measured: for the share by time, for the pace by steps.
  SchedulerStats share_from_;
  TimeNs share_since_ = 0;
  double share_ = 0;  // Of the window before.
  SchedulerStats pace_from_;
  std::optional<GroupPace> pace_;
};

}  // namespace shoal::core
