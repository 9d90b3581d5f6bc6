#pragma once

// What an answer must look like, as the text that both the coordinator and the ranks compile.

#include <cstddef>
#include <cstdint>
#include <string>

namespace shoal {

enum class GrammarKind : uint8_t {
  kNone,        // Anything; `text` is empty.
  kJsonObject,  // Any JSON object; `text` is empty.
  kJsonSchema,  // `text` is a JSON schema.
  kRegex,       // `text` is a regular expression that the whole answer matches.
  kChoice,      // `text` is a JSON array of strings; the answer is one of them.
  kParts,       // `text` is a JSON array of parts (parallel/text/grammar/parts.h).
};

constexpr size_t kGrammarBytesMax = size_t{64} << 10;

struct GrammarSource {
  GrammarKind kind = GrammarKind::kNone;
  std::string text;  // At most kGrammarBytesMax.

  bool operator==(const GrammarSource&) const = default;
};

}  // namespace shoal
