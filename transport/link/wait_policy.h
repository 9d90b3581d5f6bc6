#pragma once

// How long a wait stays awake before it sleeps.

#include <cstdint>

namespace shoal::link {

// Spin with pause, then yield, then sleep in the kernel.
struct WaitPolicy {
  int32_t spins = 0;
  int32_t yields = 0;

  // For `thread_count` threads of this machine (all ranks together) that are busy or waiting at the
  // same time. With a core for each, staying awake beats the cost of waking up; with fewer, a
  // waiter that stays awake holds the core that the awaited rank needs.
  static WaitPolicy ForThreads(int64_t thread_count);
};

// Tells the core that this is a spin loop.
inline void Pause() { __builtin_ia32_pause(); }

}  // namespace shoal::link
