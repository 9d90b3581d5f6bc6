#pragma once

// Time as deciding code sees it: handed in, so that tests and the simulator own it.

#include <cstdint>

namespace shoal {

// A point on the steady clock, in nanoseconds. Only differences mean anything.
using TimeNs = int64_t;

constexpr TimeNs kMillisecondNs = 1'000'000;
constexpr TimeNs kSecondNs = 1'000'000'000;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeNs now() const = 0;
};

// CLOCK_MONOTONIC.
class SteadyClock : public Clock {
 public:
  TimeNs now() const override;
};

// The moment at which a wait must give up.
struct Deadline {
  TimeNs at = INT64_MAX;

  static Deadline After(const Clock& clock, int64_t milliseconds) {
    return {clock.now() + milliseconds * kMillisecondNs};
  }
  bool Passed(const Clock& clock) const { return clock.now() >= at; }
  // At least 0.
  int64_t RemainingMs(const Clock& clock) const {
    const TimeNs left = at - clock.now();
    return left > 0 ? left / kMillisecondNs : 0;
  }
};

}  // namespace shoal
