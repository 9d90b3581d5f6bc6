#pragma once

// How long a test waits for what must come.

#include <cstdint>

namespace shoal::test {

// Of one wait. It comes far sooner even on a busy machine, and what hangs without end is ended from
// outside (watch_test.py): this only lets the test say which wait it was.
constexpr int64_t kPatienceMs = 240'000;

}  // namespace shoal::test
