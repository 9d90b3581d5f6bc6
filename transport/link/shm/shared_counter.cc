#include "transport/link/shm/shared_counter.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

// Waiting across processes: futexes must not be FUTEX_PRIVATE, and every sleep is bounded because
// the process that should wake us may be dead.

namespace shoal::link {
namespace {

constexpr TimeNs kSleepMaxNs = 20 * kMillisecondNs;

void FutexWait(std::atomic<uint32_t>& word, uint32_t seen, TimeNs timeout) {
  const timespec time{.tv_sec = timeout / kSecondNs, .tv_nsec = timeout % kSecondNs};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}

}  // namespace

void SharedCounter::Wake() {
  if (sleepers.load(std::memory_order_seq_cst) == 0) return;
  syscall(SYS_futex, &value, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void SharedCounter::Publish(uint32_t next) {
  // Sequentially consistent on both sides: either the sleeper sees the new value or we see the
  // sleeper.
  value.store(next, std::memory_order_seq_cst);
  Wake();
}

void WaitUntilReached(SharedCounter& counter, uint32_t target, const WaitPolicy& policy,
                      WaitGuard& guard) {
  for (int32_t i = 0; i < policy.spins; ++i) {
    if (counter.Reached(target)) return;
    Pause();
  }
  for (int32_t i = 0; i < policy.yields; ++i) {
    if (counter.Reached(target)) return;
    sched_yield();
  }
  while (!counter.Reached(target)) {
    const TimeNs sleep = std::clamp<TimeNs>(guard.Check(), 1, kSleepMaxNs);
    counter.sleepers.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t seen = counter.value.load(std::memory_order_seq_cst);
    if (static_cast<int32_t>(seen - target) < 0) FutexWait(counter.value, seen, sleep);
    counter.sleepers.fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace shoal::link
