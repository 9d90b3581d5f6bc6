#pragma once

// How much a group has to do, by what it was given, and how fast it does it, by what it reports.

#include <cstdint>
#include <map>
#include <optional>

#include "transport/base/clock.h"
#include "transport/base/scheduler_stats.h"

namespace shoal::core {

// What a group did in a while in which it was busy.
struct GroupPace {
  double step_us = 0;  // A step, which is a token more for each sequence that decodes.
  double row_us = 0;   // A row of a prompt, or a token.
  TimeNs time = 0;     // As of then.
};

// Plain data with the questions that only concern it. Work counts from the moment that it is given,
// whatever the group has reported since.
class GroupLoad {
 public:
  // Tokens that a sequence may still cost, prompt and answer; again whenever that is less.
  void SetWork(uint64_t sequence, int64_t tokens);
  // It has ended there.
  void Forget(uint64_t sequence);
  void Learn(const SchedulerStats& stats, TimeNs now);

  int64_t work_tokens() const { return work_tokens_; }  // Of all sequences together.
  const std::map<uint64_t, int64_t>& work() const { return work_; }
  uint64_t last_given() const { return last_given_; }  // The newest sequence; 0: none yet.
  // In [0, 1]: how much of the last second or more it had a step under way.
  double BusyShare(TimeNs now) const;
  const std::optional<GroupPace>& pace() const { return pace_; }  // None: unknown.

 private:
  std::map<uint64_t, int64_t> work_;  // By sequence.
  int64_t work_tokens_ = 0;
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
