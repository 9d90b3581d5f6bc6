// When groups are left out of routing, and how they come back.

#include "coordinator/core/guard/outliers.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/coordinator/core/support.h"

namespace shoal::core {
namespace {

using enum RecordKind;

class OutliersTest : public ::testing::Test {
 protected:
  OutliersTest() { AddGroups(4); }

  void AddGroups(uint64_t count) {
    for (uint64_t number = 0; number < count; ++number) groups_[number] = MakeReadyGroup(number);
  }

  void Fail(uint64_t group, int count) {
    for (int i = 0; i < count; ++i) outliers_.NoteError(group, groups_, now_);
  }

  void Pass(int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      now_ += 100 * kMillisecondNs;
      outliers_.Tick(groups_, now_);
    }
  }

  std::vector<RecordKind> Kinds() {
    std::vector<RecordKind> kinds;
    for (const Record& record : outliers_.TakeRecords()) kinds.push_back(record.kind);
    return kinds;
  }

  // For so long all groups make a step of 10 ms at a time; `slow` takes `factor` times as long.
  // Those in `idle` make none.
  void Work(int64_t milliseconds, uint64_t slow, double factor, bool loaded = true) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      for (auto& [number, group] : groups_) {
        SchedulerStats& stats = stats_[number];
        stats.busy_us_total += 100'000;
        steps_[number] += 10 / (number == slow ? factor : 1);
        stats.steps_total = static_cast<int64_t>(steps_[number]);
        stats.generated_tokens_total = 4 * stats.steps_total;
        group.load.Learn(stats, now_);
        group.sequences = loaded ? std::set<SequenceId>{1, 2} : std::set<SequenceId>{};
      }
      Pass(100);
    }
  }

  GroupMap groups_;
  std::map<uint64_t, SchedulerStats> stats_;
  std::map<uint64_t, double> steps_;
  Outliers outliers_{OutlierRules{}};
  TimeNs now_ = 100 * kSecondNs;
};

TEST_F(OutliersTest, EjectAfterTheFifthErrorInARow) {
  Fail(1, 4);
  EXPECT_EQ(outliers_.GivenMax(1), std::nullopt);
  outliers_.NoteSuccess(1, groups_, now_);
  for (int i = 0; i < 9; ++i) outliers_.NoteSuccess(1, groups_, now_);
  Fail(1, 4);
  EXPECT_EQ(outliers_.GivenMax(1), std::nullopt);
  EXPECT_TRUE(Kinds().empty());
  Fail(1, 1);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  EXPECT_EQ(outliers_.ShareOf(1, now_), 0);
  EXPECT_EQ(outliers_.ShareOf(0, now_), 1);
  EXPECT_EQ(Kinds(), (std::vector{kEjected}));
  // What it was given before fails too: that is known already.
  Fail(1, 20);
  EXPECT_TRUE(Kinds().empty());
}

TEST_F(OutliersTest, EjectWhereMostFailWithinTheInterval) {
  for (int i = 0; i < 4; ++i) {
    Fail(1, 1);
    outliers_.NoteSuccess(1, groups_, now_);
  }
  Fail(1, 1);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  // Slower than that it is not the group.
  for (int i = 0; i < 20; ++i) {
    Fail(2, 1);
    outliers_.NoteSuccess(2, groups_, now_);
    Pass(3'000);
  }
  EXPECT_EQ(outliers_.GivenMax(2), std::nullopt);
}

TEST_F(OutliersTest, TryAndTakeBackLittleByLittle) {
  Fail(1, 5);
  Pass(29'800);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  Pass(300);
  EXPECT_EQ(outliers_.GivenMax(1), 1u);
  EXPECT_EQ(Kinds(), (std::vector{kEjected}));
  outliers_.NoteSuccess(1, groups_, now_);
  EXPECT_EQ(Kinds(), (std::vector{kReturned}));
  EXPECT_EQ(outliers_.GivenMax(1), std::nullopt);
  EXPECT_DOUBLE_EQ(outliers_.ShareOf(1, now_), 0.1);
  Pass(5'000);
  EXPECT_DOUBLE_EQ(outliers_.ShareOf(1, now_), 0.5);
  Pass(5'100);
  EXPECT_DOUBLE_EQ(outliers_.ShareOf(1, now_), 1);
}

TEST_F(OutliersTest, StayOutLongerEachTimeAndForgetInTheEnd) {
  Fail(1, 5);
  Pass(30'100);
  Fail(1, 1);  // When it was tried.
  Pass(59'800);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  Pass(300);
  EXPECT_EQ(outliers_.GivenMax(1), 1u);
  outliers_.NoteSuccess(1, groups_, now_);
  Pass(61'000);  // It does well for long enough to have both forgotten.
  Fail(1, 5);
  Pass(30'100);
  EXPECT_EQ(outliers_.GivenMax(1), 1u);
}

TEST_F(OutliersTest, UseAllWhereMoreThanHalfWouldBeOut) {
  Fail(0, 5);
  Fail(1, 5);
  EXPECT_EQ(outliers_.GivenMax(0), 0u);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  EXPECT_EQ(Kinds(), (std::vector{kEjected, kEjected}));
  Fail(2, 5);
  EXPECT_EQ(Kinds(), (std::vector{kEjected, kPanicBegan}));
  for (uint64_t number = 0; number < 4; ++number) {
    EXPECT_EQ(outliers_.GivenMax(number), std::nullopt);
    EXPECT_EQ(outliers_.ShareOf(number, now_), 1);
  }
  Pass(30'100);
  outliers_.NoteSuccess(0, groups_, now_);
  EXPECT_EQ(Kinds(), (std::vector{kReturned, kPanicEnded}));
  EXPECT_EQ(outliers_.GivenMax(1), 1u);
  EXPECT_EQ(outliers_.GivenMax(2), 1u);
}

TEST_F(OutliersTest, NeverLeaveAnOnlyGroupOut) {
  groups_.clear();
  AddGroups(1);
  Fail(0, 50);
  EXPECT_EQ(outliers_.GivenMax(0), std::nullopt);
  EXPECT_EQ(Kinds(), (std::vector{kEjected, kPanicBegan}));
}

TEST_F(OutliersTest, ForgetAGroupThatIsGone) {
  Fail(1, 5);
  outliers_.Forget(1);
  EXPECT_EQ(outliers_.GivenMax(1), std::nullopt);
}

TEST_F(OutliersTest, LeaveOutAGroupThreeTimesSlowerThanItsPeersAndHaveItEmptied) {
  Work(10'000, 2, 2.5);
  EXPECT_TRUE(Kinds().empty());
  Work(10'000, 2, 3.5);
  EXPECT_EQ(Kinds(), (std::vector{kEjected}));
  EXPECT_EQ(outliers_.GivenMax(2), 0u);
  EXPECT_EQ(outliers_.TakeSlow(), (std::vector<uint64_t>{2}));
  EXPECT_TRUE(outliers_.TakeSlow().empty());
  // One that fails is left out, and what it has may end well.
  Fail(1, 5);
  EXPECT_EQ(outliers_.GivenMax(1), 0u);
  EXPECT_TRUE(outliers_.TakeSlow().empty());
}

TEST_F(OutliersTest, SayNothingOfAGroupThatIsIdleOrHasTooFewPeers) {
  Work(10'000, 2, 4, /*loaded=*/false);
  EXPECT_TRUE(Kinds().empty());
  groups_.erase(0);
  groups_.erase(1);
  Work(10'000, 2, 4);
  EXPECT_TRUE(Kinds().empty());
}

// Long prompts make long steps of many rows: no reason to leave a group out.
TEST_F(OutliersTest, DoNotTakeOtherWorkForSlowness) {
  for (int64_t passed = 0; passed < 20'000; passed += 100) {
    for (auto& [number, group] : groups_) {
      SchedulerStats& stats = stats_[number];
      const bool long_prompts = number == 2;
      stats.busy_us_total += 100'000;
      stats.steps_total += long_prompts ? 1 : 10;
      stats.prompt_rows_total += long_prompts ? 512 : 40;
      group.load.Learn(stats, now_);
      group.sequences = {1, 2};
    }
    Pass(100);
  }
  EXPECT_TRUE(Kinds().empty());
}

TEST_F(OutliersTest, NeverDrainSoManyThatTooFewAreLeft) {
  Fail(0, 5);
  Fail(1, 5);
  groups_[4] = MakeReadyGroup(4);
  Kinds();
  Work(20'000, 2, 10);
  EXPECT_TRUE(Kinds().empty());
}

}  // namespace
}  // namespace shoal::core
