#pragma once

// What a rung that computes nothing says to a question.

#include <cstddef>
#include <string>

namespace shoal::gateway {

// Longer questions are none that rules or a folder of texts are made for.
constexpr size_t kQuestionBytesMax = 16 * 1024;
constexpr size_t kQuestionWordsMax = 1'024;
constexpr size_t kTextAnswerBytesMax = 64 * 1024;

struct TextAnswer {
  std::string text{};
  std::string
      source{};  // Where it stands, for people: "rule opening_hours", "faq.md, paragraph 3".

  bool operator==(const TextAnswer&) const = default;
};

}  // namespace shoal::gateway
