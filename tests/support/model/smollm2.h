#pragma once

// The real model of the tests, which scripts/get_model.sh fetches.

#include <filesystem>
#include <optional>
#include <string>

namespace shoal::test {

inline std::optional<std::string> SmolLm2Path(const std::string& source_folder) {
  const std::string path = source_folder + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path;
}

}  // namespace shoal::test

// Skips the test at hand without the model.
#define SHOAL_REQUIRE_SMOLLM2(path)                                                          \
  const std::optional<std::string> path##_or = ::shoal::test::SmolLm2Path(SHOAL_SOURCE_DIR); \
  if (!path##_or)                                                                            \
    GTEST_SKIP() << "no models/SmolLM2-135M-Instruct.Q4_1.gguf; run scripts/get_model.sh";   \
  const std::string& path = *path##_or
