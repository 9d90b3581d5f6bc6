#pragma once

// A counter in shared memory that other processes can wait for.

#include <atomic>
#include <cstdint>

#include "transport/base/clock.h"
#include "transport/link/wait_policy.h"

namespace shoal::link {

// One writer, any number of waiters in any process. It only grows, modulo 2^32. Zeroed memory is a
// valid counter at 0. Two cache lines, because prefetchers fetch lines in pairs and neighbours
// belong to other writers.
struct alignas(128) SharedCounter {
  std::atomic<uint32_t> value;
  std::atomic<uint32_t> sleepers;

  // Whether the counter is at `target` or past it; right while they differ by less than 2^31.
  bool Reached(uint32_t target) const {
    return static_cast<int32_t>(value.load(std::memory_order_acquire) - target) >= 0;
  }

  // Makes everything written before visible to whoever sees `next`, and wakes the sleepers.
  void Publish(uint32_t next);

  // Wakes the sleepers so that they look at their guard again.
  void Wake();
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

// Looks, during a wait, whether there is still something to wait for: a peer that lives, and time
// until the deadline.
class WaitGuard {
 public:
  virtual ~WaitGuard() = default;
  // Called every now and then while waiting, at least every 20 ms. Throws to end the wait; else
  // returns for how long the waiter may sleep at most.
  virtual TimeNs Check() = 0;
};

// Returns when counter.Reached(target). Errors: what guard.Check() throws.
void WaitUntilReached(SharedCounter& counter, uint32_t target, const WaitPolicy& policy,
                      WaitGuard& guard);

}  // namespace shoal::link
