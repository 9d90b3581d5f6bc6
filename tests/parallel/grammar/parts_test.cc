#include "parallel/text/grammar/parts.h"

// Parts in a row: what they hold, and what is complained of.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/parallel/grammar/support.h"

namespace shoal::text::grammar {
namespace {

using testing::HasSubstr;

GrammarSource Parts(const std::string& text) { return {GrammarKind::kParts, text}; }

TEST(Parts, StandInARow) {
  const GrammarSource source =
      Parts(R"(["<", {"regex": "[ab]{2}"}, " ", {"schema": {"type": "integer"}}, ">"])");
  EXPECT_TRUE(Matches(source, "<ab 12>"));
  EXPECT_FALSE(Matches(source, "<ab 12"));
  EXPECT_FALSE(Matches(source, "<abb 12>"));
  EXPECT_FALSE(Matches(source, "<ab 1.5>"));
  EXPECT_TRUE(Matches(Parts("[]"), ""));
}

TEST(Parts, AreChosenAndRepeated) {
  const GrammarSource source = Parts(
      R"([{"repeat": [{"any_of": [["a", "b"], ["c"]]}], "separator": ", ", "min": 2, "max": 3}])");
  EXPECT_TRUE(Matches(source, "ab, c"));
  EXPECT_TRUE(Matches(source, "c, c, ab"));
  EXPECT_FALSE(Matches(source, "c"));
  EXPECT_FALSE(Matches(source, "c, c, c, c"));
  EXPECT_FALSE(Matches(source, "c,c"));
  const GrammarSource any = Parts(R"([{"repeat": ["x"], "min": 0}, "."])");
  EXPECT_TRUE(Matches(any, "."));
  EXPECT_TRUE(Matches(any, "xxxxx."));
  EXPECT_TRUE(Matches(Parts(R"(["a", {"repeat": ["x"], "min": 0, "max": 0}])"), "a"));
}

TEST(Parts, AreRefusedByPlace) {
  EXPECT_THAT(Refusal(Parts("{}")), HasSubstr("parts: expected an array of parts, found {}"));
  EXPECT_THAT(Refusal(Parts("[7]")),
              HasSubstr("parts[0]: expected a text, or an object of schema"));
  EXPECT_THAT(Refusal(Parts(R"([{"any_of": []}])")), HasSubstr("parts[0]: expected"));
  EXPECT_THAT(Refusal(Parts(R"([{"any_of": [["a"], "b"]}])")),
              HasSubstr("parts[0].any_of[1]: expected an array of parts, found \"b\""));
  EXPECT_THAT(Refusal(Parts(R"(["a", {"schema": {"type": "nonsense"}}])")),
              HasSubstr("parts[1].schema: "));
  EXPECT_THAT(Refusal(Parts(R"([{"regex": "("}])")), HasSubstr("parts[0].regex: "));
  EXPECT_THAT(Refusal(Parts(R"([{"repeat": ["a"], "min": -1}])")), HasSubstr("parts[0].min: "));
  EXPECT_THAT(Refusal(Parts(R"([{"repeat": ["a"], "min": 3, "max": 2}])")),
              HasSubstr("min 3 is above max 2"));
  EXPECT_THAT(Refusal(Parts(R"([{"repeat": ["a"], "often": 2}])")), HasSubstr("parts[0].often: "));
  std::string deep = "[\"a\"]";
  for (int i = 0; i < 12; ++i) deep = "[{\"any_of\": [" + deep + "]}]";
  EXPECT_THAT(Refusal(Parts(deep)), HasSubstr("nested deeper than 8"));
}

}  // namespace
}  // namespace shoal::text::grammar
