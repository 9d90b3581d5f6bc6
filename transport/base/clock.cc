#include "transport/base/clock.h"

#include <ctime>

namespace shoal {

TimeNs SteadyClock::now() const {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return TimeNs{time.tv_sec} * kSecondNs + time.tv_nsec;
}

}  // namespace shoal
