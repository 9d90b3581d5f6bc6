// What coordinators and leaders call prefixes, and reports of them one after the other.

#include "transport/base/generation/prefix_hash.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace shoal {
namespace {

std::vector<int32_t> Tokens(size_t count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), 1);
  return tokens;
}

// Other processes compute the same: XXH3-64 with its default seed and secret. That of no bytes is
// published with the algorithm.
TEST(PrefixHash, IsXxh3) { EXPECT_EQ(PrefixHashRoot(""), 0x2d06800538d394c2U); }

TEST(PrefixHash, LeavesOutWhatIsNoFullBlockAndTheLastToken) {
  EXPECT_TRUE(PrefixHashes("", Tokens(0)).empty());
  EXPECT_TRUE(PrefixHashes("", Tokens(32)).empty());
  EXPECT_EQ(PrefixHashes("", Tokens(33)).size(), 1u);
  EXPECT_EQ(PrefixHashes("", Tokens(64)).size(), 1u);
  EXPECT_EQ(PrefixHashes("", Tokens(65)).size(), 2u);
}

TEST(PrefixHash, DependsOnAllThatComesBeforeAndOnTheSalt) {
  const auto plain = PrefixHashes("", Tokens(100));
  ASSERT_EQ(plain.size(), 3u);
  EXPECT_EQ(PrefixHashes("", Tokens(80)), std::vector(plain.begin(), plain.begin() + 2));
  auto other = Tokens(100);
  other[40] = 7;
  const auto changed = PrefixHashes("", other);
  EXPECT_EQ(changed[0], plain[0]);
  EXPECT_NE(changed[1], plain[1]);
  EXPECT_NE(changed[2], plain[2]);
  EXPECT_NE(PrefixHashes("salt", Tokens(100))[0], plain[0]);
}

TEST(PrefixReport, SaysAfterAppendingWhatBothSay) {
  PrefixReport report{.full = true, .added = {1, 2}};
  EXPECT_TRUE(Append(report, {.added = {3}, .removed = {1}}));
  EXPECT_EQ(report, (PrefixReport{true, {2, 3}, {}}));
  PrefixReport changes{.added = {1}, .removed = {2}};
  EXPECT_TRUE(Append(changes, {.added = {2}, .removed = {4}}));
  EXPECT_EQ(changes, (PrefixReport{false, {1}, {4}}));
  EXPECT_TRUE(Append(changes, {.full = true, .added = {9}}));
  EXPECT_EQ(changes, (PrefixReport{true, {9}, {}}));
}

TEST(PrefixReport, IsNotMadeLongerThanItMayBe) {
  PrefixReport report{.added = std::vector<uint64_t>(kPrefixReportMax, 1)};
  const PrefixReport before = report;
  EXPECT_FALSE(Append(report, {.added = {5}}));
  EXPECT_EQ(report, before);
}

}  // namespace
}  // namespace shoal
