#pragma once

// When a group that has ended is started again.

#include <cstdint>
#include <optional>

#include "transport/base/clock.h"

namespace shoal::launch {

// The life of one group, as far as its next start depends on it. A lost group starts anew at once.
// While it keeps failing before it is ready the pauses grow: 0.5, 1, 2, 4, 8, 16 and then 30
// seconds. One that becomes ready, but not for long, waits 1 second at most.
//
// Pure. Order: Started, then perhaps Ready, then Ended or Drained, then Started again.
class RelaunchPolicy {
 public:
  static constexpr int64_t kFirstPauseMs = 500;
  static constexpr int64_t kUnsteadyPauseMaxMs = 1'000;
  static constexpr int64_t kPauseMaxMs = 30'000;
  // A group that was ready for so long starts at once after its loss, whatever was before.
  static constexpr int64_t kSteadyMs = 5'000;

  void Started(TimeNs now);
  void Ready(TimeNs now);
  // It was lost, failed, or could not be started at all.
  void Ended(TimeNs now);
  // It was asked to end, and has: it stays away.
  void Drained();
  // It does not run, and is not wanted for now.
  void StayAway() { next_start_.reset(); }
  // Someone wants it back that has stayed away, or does not want to wait any longer.
  void StartNow(TimeNs now);

  // When to start it; nothing while it runs or stays away.
  std::optional<TimeNs> next_start() const { return next_start_; }
  bool running() const { return running_; }
  bool ready() const { return ready_since_.has_value(); }
  int64_t restarts_total() const { return starts_total_ > 0 ? starts_total_ - 1 : 0; }

 private:
  std::optional<TimeNs> next_start_ = 0;  // The first start is due.
  std::optional<TimeNs> ready_since_;
  bool running_ = false;
  int64_t pause_ms_ = 0;  // Before the next start.
  int64_t starts_total_ = 0;
};

}  // namespace shoal::launch
