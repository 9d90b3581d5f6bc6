#pragma once

// Reads the reference data that SHOAL_FIXTURES names: prompts, logits and greedy tokens.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::test {

// The folder, or nothing: the test then skips and says so.
std::optional<std::string> FixturesFolder();

struct GoldenPrompt {
  std::vector<int32_t> ids;
  std::vector<float> logits;  // [ids][vocab_size], float64 arithmetic rounded once
  std::vector<int32_t> greedy_ids;
};

struct GoldenData {
  double yardstick = 0;  // How far float32 arithmetic is off in the reference implementation.
  std::vector<GoldenPrompt> prompts;
};

// golden/NAME.json and golden/NAME.safetensors below `fixtures`.
GoldenData ReadGolden(const std::string& fixtures, const std::string& name);

}  // namespace shoal::test

// Skips the test at hand without the fixtures.
#define SHOAL_REQUIRE_FIXTURES(folder)                                                    \
  const std::optional<std::string> folder##_or = ::shoal::test::FixturesFolder();         \
  if (!folder##_or) GTEST_SKIP() << "SHOAL_FIXTURES names no folder with reference data"; \
  const std::string& folder = *folder##_or
