// Regular expressions and choices: what they match, and what is refused by name.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/parallel/grammar/support.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

using testing::HasSubstr;

struct Case {
  std::string pattern;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> kCases = {
      {"", {""}, {"a"}},
      {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
      {"^abc$", {"abc"}, {"abcd"}},
      {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
      {"(a|b)*c", {"c", "abbac"}, {"ab", "acc"}},
      {"a+b?", {"a", "aab"}, {"", "b", "abb"}},
      {"a{2}", {"aa"}, {"a", "aaa"}},
      {"a{2,}", {"aa", "aaaaa"}, {"a"}},
      {"(ab){1,3}", {"ab", "ababab"}, {"", "abababab", "aba"}},
      {"a{0}b", {"b"}, {"ab"}},
      {"a*?b+?", {"aab", "b"}, {"a"}},
      {"[a-c]x[^a-c]", {"axd", "bx\xC3\xA9", "cx\n"}, {"dxd", "axa", "ax"}},
      {"[]-]", {}, {}},
      {"[a\\]\\-]+", {"a]-"}, {"b"}},
      {"[a-]+", {"a-"}, {"b"}},
      {"\\d\\D\\w\\W\\s\\S", {"1aa! x"}, {"a1a! x"}},
      {"[\\d_]{2}", {"1_"}, {"ab"}},
      {".", {"a", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}, {"\n", "\xC3", "\xFF", "ab"}},
      {"[\\u00e9-\\u20ac]", {"\xC3\xA9", "\xE2\x82\xAC"}, {"\xC3\xA8", "\xE2\x82\xAD"}},
      {"\\x41\\u{1F600}\\n\\t\\.\\{", {"A\xF0\x9F\x98\x80\n\t.{"}, {"A"}},
      {"{a}", {"{a}"}, {"a"}},
      {"(?:a)(?<n>b)(?P<m>c)", {"abc"}, {"ab"}},
      {"\xC3\xA9+", {"\xC3\xA9\xC3\xA9"}, {"\xC3", "\xC3\xA9\xC3"}},
      {"((a*)*)*b", {"b", "aaab"}, {"a"}},
      {"(|a){3}b", {"b", "aaab"}, {"aaaab"}},
      {"(){9999}(a|){5000}b", {"b", "ab"}, {"c"}},
      {"([^\\s\\S]|a)[^\\s\\S]{0,3}b", {"ab"}, {"b", "a"}},
      {"(([^\\s\\S]?[^\\s\\S]?){0,10000}){0,10000}a", {"a"}, {""}},
  };
  return kCases;
}

TEST(GrammarRegex, HoldsWhatThePatternMatchesAndNothingElse) {
  for (const Case& example : Cases()) {
    if (example.matches.empty()) continue;
    for (const std::string& text : example.matches) {
      EXPECT_TRUE(Matches(Regex(example.pattern), text)) << example.pattern << " on " << text;
    }
    for (const std::string& text : example.others) {
      EXPECT_FALSE(Matches(Regex(example.pattern), text)) << example.pattern << " on " << text;
    }
  }
}

TEST(GrammarRegex, RefusesByNameWhatIsNotRegularOrNotSupported) {
  const std::pair<std::string, std::string> cases[] = {
      {"(a)\\1", "back references"},
      {"\\k<n>", "back references"},
      {"a(?=b)", "look-ahead"},
      {"a(?!b)", "look-ahead"},
      {"(?<=a)b", "look-behind"},
      {"(?<!a)b", "look-behind"},
      {"(?>a)", "atomic groups"},
      {"a++", "possessive"},
      {"(?i)a", "inline flags"},
      {"\\bword", "word boundaries"},
      {"\\p{L}", "\\p{...}"},
      {"a^b", "^ is supported"},
      {"(a$)b", "$ is supported"},
      {"a$b", "$ is supported"},
      {"*a", "without anything"},
      {"a**", "after a quantifier"},
      {"(a", "without its )"},
      {"a)", "without its ("},
      {"[a", "without its ]"},
      {"[]", "an empty class"},
      {"[b-a]", "before its start"},
      {"a{3,2}", "below its minimum"},
      {"a{20000}", "above 10000"},
      {"\\", "at the end"},
      {"\\q", "\\q"},
      {"\\x4", "hex escape"},
      {"\\ud800", "no character"},
      {"\xFF", "ill-formed"},
      {"[\\", "at the end"},
      {"\\012", "octal"},
  };
  for (const auto& [pattern, complaint] : cases) {
    EXPECT_THAT(Refusal(Regex(pattern)), HasSubstr(complaint)) << pattern;
  }
}

TEST(GrammarRegex, NamesTheByteWhereItStopped) {
  EXPECT_THAT(Refusal(Regex("abc(?=d)")), HasSubstr("byte 4"));
}

TEST(GrammarRegex, RefusesWhatIsNestedOrLargeBeyondItsBounds) {
  EXPECT_THAT(Refusal(Regex(std::string(30'000, '('))), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(Refusal(Regex(std::string(kGrammarBytesMax + 1, 'a'))), HasSubstr("at most 65536"));
  std::string classes;
  while (classes.size() < 60'000) classes += "[^a]";
  EXPECT_THAT(Refusal(Regex(classes)), HasSubstr("more than 65536 nodes"));
  EXPECT_THAT(Refusal(Regex("[^\\s\\S]")), HasSubstr("nothing finite matches"));
}

TEST(GrammarRegex, NamesAByteThatTheVocabularyCannotWrite) {
  ByteSet letters = ByteSet::Range('a', 'z');
  try {
    CompileGrammar(Regex("a{3}[0-9]"), letters);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("no token for the byte 0x30"));
  }
  // Where there is another way it is taken.
  EXPECT_NO_THROW(CompileGrammar(Regex("a[0-9z]"), letters));
}

TEST(GrammarChoice, HoldsTheChoicesAndNothingElse) {
  const GrammarSource choice{GrammarKind::kChoice, R"(["yes", "no", "not sure", "\u00e9\n"])"};
  for (const char* text : {"yes", "no", "not sure", "\xC3\xA9\n"}) {
    EXPECT_TRUE(Matches(choice, text)) << text;
  }
  for (const char* text : {"", "y", "not", "yesno"}) EXPECT_FALSE(Matches(choice, text)) << text;
}

TEST(GrammarChoice, RefusesWhatIsNoListOfStrings) {
  for (const char* text : {"", "[]", "\"a\"", "[1]", "[\"\"]", "[\"a\""}) {
    EXPECT_NE(Refusal({GrammarKind::kChoice, text}), "") << text;
  }
}

}  // namespace
}  // namespace shoal::text::grammar
