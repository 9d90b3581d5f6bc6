#pragma once

// How a thread waits for another one: spinning, then yielding, then asleep in the system.

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <atomic>
#include <cstdint>

namespace shoal::device {

// A pause is 40 to 140 cycles: some 30 microseconds of spinning, the gap between two regions of a
// step. Then a yield (a third of a microsecond when nobody else wants the core) up to more than a
// millisecond: longer than the gap between two steps, and beside a busy process a thread that
// sleeps is often woken on that process's core, where it waits while its own core is idle.
constexpr int kSpins = 1000;
constexpr int kYields = 4000;

// Waits until `ready`, first spinning, then yielding. False if it took longer than that.
template <typename Ready>
bool SpinThenYield(Ready ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return true;
    _mm_pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (ready()) return true;
    sched_yield();
  }
  return ready();
}

// Sleeps. Returns at once if `word` no longer holds `expected`; may return early for no reason.
inline void FutexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr,
          nullptr, 0);
}

inline void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr,
          nullptr, 0);
}

}  // namespace shoal::device
