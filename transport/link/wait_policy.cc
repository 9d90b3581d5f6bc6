#include "transport/link/wait_policy.h"

#include "transport/base/host/cores.h"

// Chooses between spinning and sleeping from the cores that are really there.

namespace shoal::link {

WaitPolicy WaitPolicy::ForThreads(int64_t thread_count) {
  // 50 pauses cover the case that the peer was just about to publish. The rest goes to yields, a
  // third of a microsecond each when nobody wants the core: a peer that the kernel has put on this
  // core, as it does beside a busy process, would else not run before the spin is over. More than a
  // millisecond of them, because a rank that sleeps is often woken on the busy process's core, and
  // waits there for the end of its slice while its own core is idle.
  if (thread_count <= AvailableCores()) return {.spins = 50, .yields = 4000};
  return {.spins = 50, .yields = 4};
}

}  // namespace shoal::link
