#include "transport/link/wait_policy.h"

#include "transport/base/cores.h"

// Chooses between spinning and sleeping from the cores that are really there.

namespace shoal::link {

WaitPolicy WaitPolicy::ForThreads(int64_t thread_count) {
  // A pause takes 20 to 60 ns on current x86 cores: 4000 are about the 100 us by which two ranks of
  // equal work differ; 50 cover the case that the peer was just about to publish.
  if (thread_count <= AvailableCores()) return {.spins = 4000, .yields = 8};
  return {.spins = 50, .yields = 4};
}

}  // namespace shoal::link
