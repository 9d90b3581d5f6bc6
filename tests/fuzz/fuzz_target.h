#pragma once

// What a fuzz target provides. The same two functions serve the seeded driver (driver.cc), which
// the tests run on some inputs, and libFuzzer.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace shoal::test {

// Valid inputs to start from, made anew, not read from files. At least one.
std::vector<std::string> FuzzSeeds();

}  // namespace shoal::test

// Runs the parser on the input. It may refuse with shoal::Error of kInvalidArgument, which the
// target catches; any other exception, a failed SHOAL_CHECK or a sanitizer's report is a finding.
// Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
