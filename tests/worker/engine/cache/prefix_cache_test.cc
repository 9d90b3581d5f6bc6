// PrefixCache: which blocks are found, and which must not be.

#include "worker/engine/cache/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

namespace shoal::engine {
namespace {

std::vector<int32_t> Block(int32_t first) {
  std::vector<int32_t> tokens(BlockPool::kBlockTokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PrefixCache, FindsABlockBehindTheSameBlocksOnly) {
  PrefixCache cache(8, "secret", "id");
  const PrefixCache::Node root = cache.Root("");
  const PrefixCache::Node a = cache.Add(root, Block(1), "", 3).node;
  const PrefixCache::Node b = cache.Add(root, Block(2), "", 4).node;
  cache.Add(a, Block(9), "", 5);
  EXPECT_EQ(cache.Find(root, Block(1), "")->block, 3);
  EXPECT_EQ(cache.Find(a, Block(9), "")->block, 5);
  EXPECT_FALSE(cache.Find(b, Block(9), ""));
  EXPECT_FALSE(cache.Find(root, Block(9), ""));
  EXPECT_FALSE(cache.Find(a, Block(8), ""));
}

TEST(PrefixCache, KeepsTenantsApart) {
  PrefixCache cache(8, "secret", "id");
  const PrefixCache::Node one = cache.Root("one");
  cache.Add(one, Block(1), "one", 0);
  EXPECT_TRUE(cache.Find(one, Block(1), "one"));
  EXPECT_FALSE(cache.Find(cache.Root("two"), Block(1), "two"));
  EXPECT_FALSE(cache.Find(one, Block(1), "two")) << "even if the roots' hashes were equal";
}

TEST(PrefixCache, StartsItsChainsAtTheSecretAndTheNumericsId) {
  const PrefixCache::Node root = PrefixCache(1, "secret", "id").Root("salt");
  EXPECT_NE(root.hash_low, PrefixCache(1, "secret", "other").Root("salt").hash_low);
  EXPECT_NE(root.hash_low, PrefixCache(1, "other", "id").Root("salt").hash_low);
  EXPECT_NE(root.hash_low, PrefixCache(1, "secreti", "d").Root("salt").hash_low);
  EXPECT_EQ(root.hash_low, PrefixCache(1, "secret", "id").Root("salt").hash_low);
}

TEST(PrefixCache, KeepsTheFirstOfTwoBlocksWithTheSameContent) {
  PrefixCache cache(8, "secret", "id");
  const PrefixCache::Added first = cache.Add(cache.Root(""), Block(1), "", 0);
  const PrefixCache::Added second = cache.Add(cache.Root(""), Block(1), "", 1);
  EXPECT_TRUE(first.is_new);
  EXPECT_FALSE(second.is_new);
  EXPECT_EQ(first.node.entry, second.node.entry);
  EXPECT_EQ(cache.Find(cache.Root(""), Block(1), "")->block, 0);
}

TEST(PrefixCache, DoesNotFindWhatHangsOnAForgottenBlock) {
  PrefixCache cache(8, "secret", "id");
  const PrefixCache::Node root = cache.Root("");
  const PrefixCache::Node former = cache.Add(root, Block(1), "", 0).node;
  cache.Add(former, Block(2), "", 1);
  cache.Forget(0);
  EXPECT_FALSE(cache.Find(root, Block(1), ""));
  const PrefixCache::Node latter = cache.Add(root, Block(1), "", 2).node;
  EXPECT_FALSE(cache.Find(latter, Block(2), ""));
  EXPECT_TRUE(cache.Add(latter, Block(2), "", 3).is_new) << "it makes room for its successor";
  EXPECT_EQ(cache.Find(latter, Block(2), "")->block, 3);
  cache.Forget(1);  // What is no longer found may be forgotten without harm.
  EXPECT_EQ(cache.Find(latter, Block(2), "")->block, 3);
}

std::vector<uint64_t> Sorted(std::vector<uint64_t> hashes) {
  std::ranges::sort(hashes);
  return hashes;
}

// A chain of four blocks, for the salt. Result: the places after each.
std::vector<PrefixCache::Node> AddChain(PrefixCache& cache, std::string_view salt) {
  std::vector<PrefixCache::Node> nodes = {cache.Root(salt)};
  for (int32_t block = 0; block < 4; ++block) {
    nodes.push_back(cache.Add(nodes.back(), Block(32 * block), salt, block).node);
  }
  return nodes;
}

// A coordinator that knows only the prompt computes the same.
TEST(PrefixCacheReports, NameBlocksAsACoordinatorDoes) {
  PrefixCache cache(8, "secret", "id");
  AddChain(cache, "salt");
  std::vector<int32_t> prompt(129);
  std::iota(prompt.begin(), prompt.end(), 0);
  const PrefixReport report = cache.TakeReport();
  EXPECT_TRUE(report.full);
  EXPECT_EQ(Sorted(report.added), Sorted(PrefixHashes("salt", prompt)));
  EXPECT_TRUE(report.removed.empty());
  EXPECT_TRUE(cache.TakeReport().empty());
}

TEST(PrefixCacheReports, TellWhatHasChanged) {
  PrefixCache cache(8, "secret", "id");
  const std::vector<PrefixCache::Node> nodes = AddChain(cache, "");
  cache.TakeReport();
  cache.Forget(3);
  cache.Forget(2);
  cache.Add(nodes[2], Block(64), "", 2);  // As it was.
  EXPECT_EQ(cache.TakeReport(), (PrefixReport{.removed = {nodes[4].public_hash}}));
  // Also behind a block that was found rather than computed.
  const auto hit = cache.Find(nodes[2], Block(64), "");
  ASSERT_TRUE(hit);
  cache.Add(hit->node, Block(96), "", 5);
  EXPECT_EQ(cache.TakeReport(), (PrefixReport{.added = {nodes[4].public_hash}}));
}

TEST(PrefixCacheReports, BeginAnewForWhoeverKnowsNothing) {
  PrefixCache cache(8, "secret", "id");
  AddChain(cache, "");
  const PrefixReport first = cache.TakeReport();
  cache.Forget(3);
  cache.ReportAnew();
  const PrefixReport again = cache.TakeReport();
  EXPECT_TRUE(again.full);
  EXPECT_EQ(again.added.size(), 3u);
  EXPECT_TRUE(again.removed.empty());
}

TEST(PrefixCacheReports, ComeInParts) {
  const auto blocks = static_cast<int32_t>(kPrefixReportMax + 10);
  PrefixCache cache(blocks, "secret", "id");
  const PrefixCache::Node root = cache.Root("");
  for (int32_t block = 0; block < blocks; ++block) cache.Add(root, Block(block), "", block);
  const PrefixReport first = cache.TakeReport();
  const PrefixReport second = cache.TakeReport();
  EXPECT_TRUE(first.full);
  EXPECT_FALSE(second.full);
  EXPECT_EQ(first.added.size(), kPrefixReportMax);
  EXPECT_EQ(second.added.size(), 10u);
  EXPECT_TRUE(cache.TakeReport().empty());
}

}  // namespace
}  // namespace shoal::engine
