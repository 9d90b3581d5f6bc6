#pragma once

// Several prompts as one text: a published trick to save calls. Do not use it; it is here so that
// what is wrong with it can be shown (merged_prompts_test.cc). The model reads all prompts in one
// context, so each answer depends on the others' texts, and one that holds the separator changes
// where the others begin. GenerateBatch does neither.

#include <string>
#include <string_view>
#include <vector>

namespace shoal::client {

constexpr std::string_view kMergeSeparator = "\nUser: ";

inline std::string MergePrompts(const std::vector<std::string>& prompts) {
  std::string merged;
  for (const std::string& prompt : prompts) {
    if (&prompt != prompts.data()) merged += kMergeSeparator;
    merged += prompt;
  }
  return merged;
}

// What whoever gets the text takes for its prompts.
inline std::vector<std::string> SplitMerged(std::string_view merged) {
  std::vector<std::string> prompts;
  size_t end = 0;
  while ((end = merged.find(kMergeSeparator)) != merged.npos) {
    prompts.emplace_back(merged.substr(0, end));
    merged.remove_prefix(end + kMergeSeparator.size());
  }
  prompts.emplace_back(merged);
  return prompts;
}

}  // namespace shoal::client
