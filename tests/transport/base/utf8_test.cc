// Well-formed text stays as it is; of other text each ill-formed part becomes one character.

#include "transport/base/utf8.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(ReplaceIllFormed, ReplacesEachMaximalIllFormedPartAndNothingElse) {
  EXPECT_EQ(ReplaceIllFormed("plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(ReplaceIllFormed("a\xFF\xFE"), "a\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(ReplaceIllFormed("a\xE2\x82"), "a\xEF\xBF\xBD");
  EXPECT_EQ(ReplaceIllFormed("\xED\xA0\x80!"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!");
  for (const char* bad : {"\x80", "\xC0\x80", "\xF5\x80\x80\x80", "x\xC3"}) {
    EXPECT_FALSE(IsWellFormedUtf8(bad));
    EXPECT_TRUE(IsWellFormedUtf8(ReplaceIllFormed(bad)));
  }
}

}  // namespace
}  // namespace shoal
