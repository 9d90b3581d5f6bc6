// BlockPool: which block is handed out next, and which kept content is lost by it.

#include "worker/engine/cache/block_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace shoal::engine {
namespace {

TEST(BlockPool, HandsOutTheLowestFreeBlock) {
  BlockPool blocks(4);
  for (int32_t expected = 0; expected < 4; ++expected) EXPECT_EQ(blocks.Take(), expected);
  EXPECT_EQ(blocks.free_count(), 0);
  blocks.Release(std::vector<int32_t>{3, 1});
  EXPECT_EQ(blocks.Take(), 1);
  EXPECT_EQ(blocks.Take(), 3);
  EXPECT_EQ(BlockPool::BlocksFor(0), 0);
  EXPECT_EQ(BlockPool::BlocksFor(32), 1);
  EXPECT_EQ(BlockPool::BlocksFor(33), 2);
}

TEST(BlockPool, TakesWhatHoldsNothingBeforeWhatIsKept) {
  BlockPool blocks(3);
  const std::vector<int32_t> taken{blocks.Take(), blocks.Take()};
  blocks.Keep(taken[0]);
  blocks.Keep(taken[1]);
  blocks.Release(taken);
  EXPECT_EQ(blocks.free_count(), 3);
  EXPECT_EQ(blocks.kept_count(), 2);
  EXPECT_EQ(blocks.Take(), 2);
  EXPECT_EQ(blocks.Take(), taken[1]) << "of a sequence the last block goes first";
  EXPECT_EQ(blocks.Take(), taken[0]);
}

TEST(BlockPool, LosesWhatWasReleasedLongestAgoFirst) {
  BlockPool blocks(2);
  const std::vector<int32_t> first{blocks.Take()};
  const std::vector<int32_t> second{blocks.Take()};
  blocks.Keep(first[0]);
  blocks.Keep(second[0]);
  blocks.Release(first);
  blocks.Release(second);
  blocks.Share(first[0]);  // Used again, and so the younger one.
  blocks.Release(first);
  EXPECT_EQ(blocks.Take(), second[0]);
  EXPECT_EQ(blocks.Take(), first[0]);
}

TEST(BlockPool, KeepsABlockUntilItsLastSequenceReleasesIt) {
  BlockPool blocks(1);
  const std::vector<int32_t> block{blocks.Take()};
  blocks.Keep(block[0]);
  blocks.Share(block[0]);
  blocks.Release(block);
  EXPECT_TRUE(blocks.taken(block[0]));
  EXPECT_EQ(blocks.free_count(), 0);
  blocks.Release(block);
  EXPECT_FALSE(blocks.taken(block[0]));
  EXPECT_EQ(blocks.Take(), block[0]);
  blocks.Release(block);
  EXPECT_EQ(blocks.kept_count(), 0) << "taken anew, it is not kept any more";
}

TEST(BlockPool, AbortsWhenABlockIsSharedThatNobodyKept) {
  BlockPool blocks(2);
  const int32_t block = blocks.Take();
  EXPECT_DEATH(blocks.Share(block), "is not kept");
}

TEST(BlockPool, AbortsOnADoubleRelease) {
  BlockPool blocks(2);
  const std::vector<int32_t> taken{blocks.Take()};
  blocks.Release(taken);
  EXPECT_DEATH(blocks.Release(taken), "free already");
}

}  // namespace
}  // namespace shoal::engine
