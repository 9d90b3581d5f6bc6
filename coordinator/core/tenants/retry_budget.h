#pragma once

// How many of a client's requests may be retries.

#include <array>
#include <cstdint>

#include "transport/base/clock.h"

namespace shoal::core {

// Over the last ten seconds, by the second.
constexpr int kRetryWindowSeconds = 10;
// So many retries in that time are allowed of whoever, so that a lone client may come again.
constexpr int64_t kRetriesMin = 10;

class RetryBudget {
 public:
  // A first attempt was made.
  void NoteFirst(TimeNs now);
  // Whether one more retry is within `share_max` of all requests of the window.
  bool AllowsRetry(double share_max, TimeNs now) const;
  // As AllowsRetry; if so, it counts.
  bool TakeRetry(double share_max, TimeNs now);
  // The least whole milliseconds until one will be, if nothing else comes before.
  int64_t WaitMs(double share_max, TimeNs now) const;

 private:
  struct Second {
    int64_t number = -1;  // Since the clock's start. What is older than the window counts no more.
    uint32_t firsts = 0;
    uint32_t retries = 0;
  };

  // Whether one more retry is allowed at the begin of that second, or in it.
  bool Allows(double share_max, int64_t second) const;
  Second& At(TimeNs now);

  std::array<Second, kRetryWindowSeconds> seconds_{};
};

}  // namespace shoal::core
