// ClassQueue: the order in which waiting requests are served.

#include "transport/base/class_queue.h"

#include <gtest/gtest.h>

#include <iterator>
#include <vector>

namespace shoal {
namespace {

// Serves the front until none is left. Result: the items in order.
std::vector<int> ServeAll(ClassQueue<int>& queue) {
  std::vector<int> served;
  while (!queue.empty()) {
    served.push_back(queue.front());
    queue.Serve(Turn(queue.front_turn()));
  }
  return served;
}

TEST(ClassQueue, ServesLowerClassesFirstAndInAClassTheFirstToCome) {
  ClassQueue<int> queue;
  queue.Add({1, 0}, 10);
  queue.Add({0, 1}, 20);
  queue.Add({0, 2}, 30);
  queue.Add({-1, 3}, 40);
  EXPECT_EQ(queue.size(), 4U);
  EXPECT_EQ(ServeAll(queue), (std::vector<int>{40, 20, 30, 10}));
}

TEST(ClassQueue, ServesWhatCameFirstAfterEightOthersWhateverItsClass) {
  ClassQueue<int> queue;
  queue.Add({5, 0}, -1);
  queue.Add({5, 1}, -2);
  for (int i = 0; i < 20; ++i) queue.Add({0, static_cast<uint64_t>(i) + 2}, i);
  EXPECT_EQ(ServeAll(queue), (std::vector<int>{0,  1,  2,  3,  4,  5,  6,  7,  -1, 8,  9,
                                               10, 11, 12, 13, 14, 15, -2, 16, 17, 18, 19}));
}

TEST(ClassQueue, CountsFromTheLastTimeTheFirstToComeWasServed) {
  ClassQueue<int> queue;
  queue.Add({0, 0}, 0);
  for (uint64_t i = 1; i < 8; ++i) {
    queue.Add({-1, i}, static_cast<int>(i));
    queue.Serve({-1, i});
  }
  queue.Serve({0, 0});  // Seven had passed it.
  queue.Add({1, 20}, 20);
  queue.Add({0, 21}, 21);
  queue.Serve({0, 21});
  queue.Add({0, 22}, 22);
  EXPECT_EQ(queue.front(), 22);
}

// One that comes back under the arrival that it had takes nothing from those that arrived later.
TEST(ClassQueue, KeepsACountWhileAnEarlierArrivalIsServedAgainAndAgain) {
  ClassQueue<int> queue;
  queue.Add({5, 1}, -1);
  for (uint64_t i = 2; i < 10; ++i) {
    queue.Add({0, 0}, 0);
    queue.Serve({0, 0});
    queue.Add({0, i}, static_cast<int>(i));
    queue.Serve({0, i});
  }
  EXPECT_EQ(queue.front_turn(), (Turn{kPromotedRank, 1}));
}

TEST(ClassQueue, CountsForTheNextWhileAPromotedOneDoesNotFit) {
  ClassQueue<int> queue;
  queue.Add({5, 0}, -1);
  queue.Add({5, 1}, -2);
  for (uint64_t i = 2; i < 18; ++i) {
    queue.Add({0, i}, static_cast<int>(i));
    queue.Serve({0, i});
  }
  EXPECT_EQ(queue.turns().begin()->arrival, 0U);
  EXPECT_EQ(*std::next(queue.turns().begin()), (Turn{kPromotedRank, 1}));
}

TEST(ClassQueue, RemovesWhatNobodyServes) {
  ClassQueue<int> queue;
  queue.Add({3, 7}, 1);
  EXPECT_FALSE(queue.Remove(8));
  EXPECT_TRUE(queue.Remove(7));
  EXPECT_FALSE(queue.Remove(7));
  EXPECT_TRUE(queue.empty());
}

TEST(ClassQueue, FindsAndRemovesAnItemThatWasPromoted) {
  ClassQueue<int> queue;
  queue.Add({5, 0}, -1);
  for (uint64_t i = 1; i <= 8; ++i) {
    queue.Add({0, i}, static_cast<int>(i));
    queue.Serve({0, i});
  }
  EXPECT_EQ(queue.front_turn(), (Turn{kPromotedRank, 0}));
  EXPECT_EQ(queue.at({5, 0}), -1) << "a turn that was noted before still names it";
  EXPECT_TRUE(queue.Remove(0));
  EXPECT_TRUE(queue.turns().empty());
}

TEST(ClassQueue, AbortsWhenAnArrivalComesTwice) {
  ClassQueue<int> queue;
  queue.Add({0, 1}, 1);
  EXPECT_DEATH(queue.Add({2, 1}, 2), "arrival 1 waits already");
}

}  // namespace
}  // namespace shoal
