#pragma once

// Virtual time: what is to happen, in order, and a clock that goes from one thing to the next.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "transport/base/clock.h"

namespace shoal::core::net_sim {

// Order: by time; of one time, as they were asked for.
class VirtualLoop : public Clock {
 public:
  TimeNs now() const override { return now_; }
  int64_t now_ms() const { return now_ / kMillisecondNs; }

  void After(int64_t milliseconds, std::function<void()> what);
  // Does the next thing, if it is due by `end`. Otherwise false, and the time is `end`.
  bool RunNext(TimeNs end);
  // Time passes in which nothing runs: what was due then is late.
  void Skip(int64_t milliseconds) { now_ += milliseconds * kMillisecondNs; }

  int64_t events_total() const { return events_total_; }

 private:
  struct Event {
    TimeNs at;
    uint64_t order;
    size_t slot;  // Of what is to be done.
    bool operator>(const Event& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  TimeNs now_ = kSecondNs;
  uint64_t next_order_ = 0;
  int64_t events_total_ = 0;
  std::vector<Event> heap_;
  std::vector<std::function<void()>> slots_;
  std::vector<size_t> free_;
};

}  // namespace shoal::core::net_sim
