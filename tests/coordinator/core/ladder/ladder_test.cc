// The ladder's level on virtual time: down when refusals pile up, up after a rest, and never to and
// fro within the time that it holds.

#include "coordinator/core/ladder/ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace shoal::core {
namespace {

using ::testing::ElementsAre;

constexpr auto kFull = BusyReason::kQueueFull;

LadderPolicy Policy() {
  LadderPolicy policy;
  policy.rungs = {{"little", RungKind::kModel, 0.7, 0.3},
                  {"rules", RungKind::kRules, 0.4, 0},
                  {"tiny", RungKind::kModel, 0.2, 0.1}};
  policy.quality_floors = {1, 0.5, 0.3, 0};
  policy.refusals = 3;
  policy.within_ms = 1'000;
  policy.hold_ms = 60'000;
  return policy;
}

TimeNs Ms(int64_t ms) { return ms * kMillisecondNs; }

void Refuse(Ladder& ladder, int count, int64_t ms) {
  for (int i = 0; i < count; ++i) ladder.NoteRefusal(ladder.level(), kFull, Ms(ms));
}

TEST(Ladder, AsksTheRungsInOrderDownToTheFloorOfTheClass) {
  Ladder ladder(Policy());
  EXPECT_THAT(ladder.Order(ServiceClass::kCriticalPlus, "", 0), ElementsAre(0));
  EXPECT_THAT(ladder.Order(ServiceClass::kCritical, "", 0), ElementsAre(0, 1));
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddablePlus, "", 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "", 0), ElementsAre(0, 1, 2, 3));
}

TEST(Ladder, BeginsARungLowerOnceRefusalsPileUp) {
  Ladder ladder(Policy());
  Refuse(ladder, 2, 0);
  Refuse(ladder, 1, 1'001);  // The first two are too long ago.
  EXPECT_EQ(ladder.level(), 0);
  Refuse(ladder, 2, 1'500);
  EXPECT_EQ(ladder.level(), 1);
  EXPECT_EQ(ladder.TakeChange()->why, "3 refusals in 1000 ms, the last one queue_full");
  EXPECT_FALSE(ladder.TakeChange());
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "", Ms(1'500)), ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(ladder.Order(ServiceClass::kCriticalPlus, "", Ms(1'500)), ElementsAre(0))
      << "the floor holds at every level";
  Refuse(ladder, 3, 1'600);  // Of the rung that is asked now.
  EXPECT_EQ(ladder.level(), 2);
}

TEST(Ladder, KeepsItsLevelWhenItsFileIsReadAgain) {
  Ladder ladder(Policy());
  Refuse(ladder, 6, 0);
  ASSERT_EQ(ladder.level(), 2);
  while (ladder.TakeChange()) {
  }
  LadderPolicy longer = Policy();
  longer.rungs.push_back({"cache", RungKind::kCache, 1, 0});
  ladder.Configure(longer, Ms(10));
  EXPECT_EQ(ladder.level(), 2);
  EXPECT_FALSE(ladder.TakeChange());
  ladder.Tick(false, Ms(20));
  EXPECT_EQ(ladder.level(), 2) << "a reading is no rest";
}

TEST(Ladder, EndsWhereItsFileEndsNow) {
  Ladder ladder(Policy());
  Refuse(ladder, 9, 0);
  ASSERT_EQ(ladder.level(), 3);
  while (ladder.TakeChange()) {
  }
  LadderPolicy shorter = Policy();
  shorter.rungs.resize(1);
  ladder.Configure(shorter, Ms(10));
  EXPECT_EQ(ladder.level(), 1);
  EXPECT_EQ(ladder.TakeChange()->to, 1);
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "", Ms(10)), ElementsAre(1, 0));
}

TEST(Ladder, ForgetsWhereConversationsWereWhenItsFileIsReadAgain) {
  Ladder ladder(Policy());
  ladder.NoteAnswer(3, "s", 0);
  ASSERT_THAT(ladder.Order(ServiceClass::kSheddable, "s", 0), ElementsAre(3, 0, 1, 2));
  LadderPolicy shorter = Policy();
  shorter.rungs.resize(1);
  ladder.Configure(shorter, 0);
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "s", 0), ElementsAre(0, 1));
}

TEST(Ladder, IgnoresReasonsThatAreTheRequestsOwn) {
  Ladder ladder(Policy());
  for (int i = 0; i < 10; ++i) ladder.NoteRefusal(0, BusyReason::kQuotaExceeded, 0);
  EXPECT_EQ(ladder.level(), 0);
  EXPECT_FALSE(ladder.MayDegrade(BusyReason::kRequestSuspect));
  EXPECT_TRUE(ladder.MayDegrade(BusyReason::kGroupLost));
}

TEST(Ladder, GoesUpOneRungAfterEachRest) {
  Ladder ladder(Policy());
  Refuse(ladder, 3, 0);
  Refuse(ladder, 3, 100);
  ASSERT_EQ(ladder.level(), 2);
  ladder.Tick(false, Ms(60'099));
  EXPECT_EQ(ladder.level(), 2);
  ladder.Tick(false, Ms(60'100));
  EXPECT_EQ(ladder.level(), 1);
  ladder.Tick(false, Ms(120'099));
  EXPECT_EQ(ladder.level(), 1);
  ladder.Tick(false, Ms(120'100));
  EXPECT_EQ(ladder.level(), 0);
}

TEST(Ladder, StaysDownWhileWhatIsAboveStillRefuses) {
  Ladder ladder(Policy());
  Refuse(ladder, 3, 0);
  ladder.NoteRefusal(0, kFull, Ms(50'000));  // Of a class that must not be degraded.
  ladder.Tick(false, Ms(60'000));
  EXPECT_EQ(ladder.level(), 1);
  ladder.Tick(false, Ms(110'000));
  EXPECT_EQ(ladder.level(), 0);
}

TEST(Ladder, FollowsABreakerDownRungByRung) {
  Ladder ladder(Policy());
  ladder.Tick(true, 0);
  EXPECT_EQ(ladder.level(), 1);
  EXPECT_EQ(ladder.TakeChange()->why, "a breaker asks for it");
  ladder.Tick(true, Ms(59'999));
  EXPECT_EQ(ladder.level(), 1);
  ladder.Tick(true, Ms(60'000));
  EXPECT_EQ(ladder.level(), 2);
  ladder.Tick(false, Ms(119'999));
  EXPECT_EQ(ladder.level(), 2);
  ladder.Tick(false, Ms(120'000));
  EXPECT_EQ(ladder.level(), 1);
}

// A staircase of load, then noise: at most one turn in each hold time.
TEST(Ladder, TurnsAroundAtMostOnceInTheTimeThatItHolds) {
  for (const uint32_t seed : {1U, 2U, 3U, 4U, 5U}) {
    Ladder ladder(Policy());
    std::mt19937 random(seed);
    TimeNs last_turn = -1;
    TimeNs last_change = -1;
    bool down = false;
    int changes = 0;
    for (int64_t ms = 0; ms < 3'600'000; ms += 50) {
      const bool busy = random() % (ms % 300'000 < 45'000 ? 2 : 4'096) == 0;
      if (busy) Refuse(ladder, 1, ms);
      ladder.Tick(random() % 8'192 == 0, Ms(ms));
      while (const auto change = ladder.TakeChange()) {
        const bool goes_down = change->to > change->from;
        if (changes++ > 0 && goes_down != down) {
          EXPECT_GE(Ms(ms) - last_change, Ms(60'000));
          EXPECT_TRUE(last_turn < 0 || Ms(ms) - last_turn >= Ms(60'000));
          last_turn = Ms(ms);
        }
        down = goes_down;
        last_change = Ms(ms);
      }
    }
    EXPECT_GT(changes, 3) << "seed " << seed;
  }
}

TEST(Ladder, KeepsAConversationWithTheModelThatAnsweredIt) {
  Ladder ladder(Policy());
  ladder.NoteAnswer(3, "talk", 0);
  ladder.NoteAnswer(2, "asked", 0);  // Rules keep nothing.
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "talk", Ms(59'999)), ElementsAre(3, 0, 1, 2));
  EXPECT_THAT(ladder.Order(ServiceClass::kCritical, "talk", Ms(1)), ElementsAre(0, 1));
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "asked", 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(ladder.Order(ServiceClass::kSheddable, "talk", Ms(60'000)), ElementsAre(0, 1, 2, 3));
}

TEST(Ladder, RemembersABoundedNumberOfConversations) {
  Ladder ladder(Policy());
  for (size_t i = 0; i < Ladder::kSessionsMax + 10; ++i) {
    ladder.NoteAnswer(1, "session " + std::to_string(i), 0);
  }
  EXPECT_EQ(ladder.session_count(), Ladder::kSessionsMax);
  ladder.NoteAnswer(1, "later", Ms(60'000));
  EXPECT_EQ(ladder.session_count(), 1U) << "those whose time is over go first";
}

}  // namespace
}  // namespace shoal::core
