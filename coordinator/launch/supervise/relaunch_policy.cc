#include "coordinator/launch/supervise/relaunch_policy.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::launch {

void RelaunchPolicy::Started(TimeNs now) {
  SHOAL_CHECK(!running_, "a group that runs is started again at ", now);
  next_start_.reset();
  running_ = true;
  ++starts_total_;
}

void RelaunchPolicy::Ready(TimeNs now) {
  if (running_ && !ready_since_) ready_since_ = now;
}

void RelaunchPolicy::Ended(TimeNs now) {
  SHOAL_CHECK(running_, "a group that does not run has ended");
  int64_t pause_max_ms = kPauseMaxMs;
  if (ready_since_) {
    pause_max_ms = kUnsteadyPauseMaxMs;
    if (now - *ready_since_ >= kSteadyMs * kMillisecondNs) pause_ms_ = 0;
  }
  const int64_t pause_ms = std::min(pause_ms_, pause_max_ms);
  next_start_ = now + pause_ms * kMillisecondNs;
  pause_ms_ = pause_ms == 0 ? kFirstPauseMs : std::min(2 * pause_ms, kPauseMaxMs);
  running_ = false;
  ready_since_.reset();
}

void RelaunchPolicy::Drained() {
  SHOAL_CHECK(running_, "a group that does not run has been drained");
  running_ = false;
  ready_since_.reset();
  next_start_.reset();
  pause_ms_ = 0;
}

void RelaunchPolicy::StartNow(TimeNs now) {
  if (!running_) next_start_ = now;
}

}  // namespace shoal::launch
