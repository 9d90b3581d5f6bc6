#pragma once

// Sets of characters, and the bytes that write them: as plain UTF-8 or inside a JSON string.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

// Code points without surrogates, as ordered, disjoint ranges.
class CharacterSet {
 public:
  struct Range {
    char32_t first = 0;
    char32_t last = 0;  // Included.
  };

  static CharacterSet All();

  void Add(char32_t first, char32_t last);
  void Add(const CharacterSet& other);
  CharacterSet Complement() const;
  // What both hold.
  CharacterSet And(const CharacterSet& other) const;
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

enum class Spelling : uint8_t {
  kUtf8,
  // Characters that JSON strings must escape are escaped in their shortest form (\n before \u000a);
  // all others stand for themselves.
  kJsonString,
};

// One character of the set.
NodeId OneOf(Expression& expression, const CharacterSet& set, Spelling spelling);

// The spelling of one character.
std::string Spell(char32_t character, Spelling spelling);

}  // namespace shoal::text::grammar
