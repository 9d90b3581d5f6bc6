// Machines against all short texts: what several patterns and lengths hold at once.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "parallel/text/grammar/string_machines.h"
#include "tests/parallel/grammar/support.h"

namespace shoal::text::grammar {
namespace {

// All texts of up to `length` of these characters.
std::vector<std::string> ShortTexts(size_t length) {
  std::vector<std::string> texts = {""};
  for (size_t begin = 0, i = 0; i < length; ++i) {
    const size_t end = texts.size();
    for (; begin < end; ++begin) {
      for (const char* c : {"a", "b", "\xE2\x82\xAC", "\n"}) texts.push_back(texts[begin] + c);
    }
  }
  return texts;
}

size_t CountOf(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

TEST(GrammarMachine, HoldsWhatBothHoldAndWhatOnlyTheFirstHolds) {
  const std::vector<std::string> patterns = {"a",      "^a*$",     "^(ab|\xE2\x82\xAC)*$",
                                             "b$",     "[^a]",     "^(aa)*b?",
                                             "\\n|^$", "^.{2,4}$", "(a|b){3}"};
  Expression expression(ByteSet::All());
  StringMachines machines(expression);
  const std::vector<std::string> texts = ShortTexts(5);
  for (const std::string& first : patterns) {
    const Machine a = machines.OfPattern(first, RegexMatch::kSearch);
    for (const std::string& second : patterns) {
      const Machine b = machines.OfPattern(second, RegexMatch::kSearch);
      const Machine both = machines.Intersect(a, b);
      const Machine only_a = machines.Subtract(a, b);
      for (const std::string& text : texts) {
        const std::string spelled = SpelledText(text);
        const bool in_a = a.Matches(spelled);
        const bool in_b = b.Matches(spelled);
        ASSERT_EQ(both.Matches(spelled), in_a && in_b) << first << " and " << second << " " << text;
        ASSERT_EQ(only_a.Matches(spelled), in_a && !in_b) << first << " less " << second << text;
      }
      EXPECT_TRUE(first != second || only_a.empty()) << first;
    }
  }
}

TEST(GrammarMachine, BoundsLengthsAndNeverLeadsAstray) {
  for (const std::string pattern :
       {"", "^(aab)*$", "^(a|bb|\xE2\x82\xAC\n)*$", "^(aaa)*(bb)*$", "^a?$", "b"}) {
    Expression expression(ByteSet::All());
    StringMachines machines(expression);
    const Machine machine = machines.OfPattern(pattern, RegexMatch::kSearch);
    for (const auto& [min, max] : {std::pair(0U, 3U),
                                   {2U, 4U},
                                   {4U, 4U},
                                   {3U, kUnlimited},
                                   {0U, 0U},
                                   {5U, 5U},
                                   {1U, 1'000'000'000U}}) {
      const Machine bounded = machines.WithLengths(machine, min, max);
      bool any = false;
      for (const std::string& text : ShortTexts(5)) {
        const std::string spelled = SpelledText(text);
        const size_t count = CountOf(text);
        const bool expected = machine.Matches(spelled) && count >= min && count <= max;
        any = any || expected;
        ASSERT_EQ(bounded.Matches(spelled), expected) << pattern << " " << min << " " << text;
        // Where a text may go on, some way leads to a match.
        if (bounded.empty()) continue;
        std::optional<Machine::At> at = Machine::start();
        for (const char byte : spelled) {
          if (at) at = bounded.Next(*at, static_cast<uint8_t>(byte));
        }
        if (at) {
          ASSERT_TRUE(bounded.Accepts(*at) || !bounded.Ends(*at)) << pattern << " " << text;
        }
      }
      EXPECT_TRUE(any || max > 5 || bounded.empty()) << pattern << " " << min << " to " << max;
    }
  }
}

}  // namespace
}  // namespace shoal::text::grammar
