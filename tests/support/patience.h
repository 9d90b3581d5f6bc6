#pragma once

// How long a test waits for something that must come.

#include <cstdint>

namespace shoal::test {

// The bound of one wait. What is waited for comes far sooner, even on a busy machine, and
// watch_test.py ends a test that hangs: the bound only lets the test say which wait it was.
constexpr int64_t kPatienceMs = 240'000;

}  // namespace shoal::test
