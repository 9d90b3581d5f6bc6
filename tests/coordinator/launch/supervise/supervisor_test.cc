// Groups that are started by an executor without processes, on a clock that the test sets.

#include "coordinator/launch/supervise/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "transport/base/error.h"

namespace shoal::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ManualClock : public Clock {
 public:
  TimeNs now() const override { return now_; }
  void Advance(int64_t milliseconds) { now_ += milliseconds * kMillisecondNs; }

 private:
  TimeNs now_ = 0;
};

// What has become of one start.
struct FakeProcess {
  std::optional<GroupEnd> end{};
  bool terminated = false;
  bool killed = false;
  bool stuck = false;                    // SIGKILL does not help.
  std::map<int32_t, int64_t> watched{};  // Pids, by rank.
  std::string ended_rank{};
};

class FakeStartedGroup : public StartedGroup {
 public:
  explicit FakeStartedGroup(FakeProcess& process) : process_(process) {}
  bool HasEnded() override { return process_.end.has_value(); }
  void Terminate() override { process_.terminated = true; }
  bool Kill() override {
    process_.killed = true;
    return !process_.stuck;
  }
  GroupEnd TakeEnd() override { return process_.end.value_or(GroupEnd{.signal = 9}); }
  const std::string& starter() const override { return starter_; }
  void Watch(int32_t rank, int64_t pid) override { process_.watched[rank] = pid; }
  std::string EndedRank() const override { return process_.ended_rank; }

 private:
  FakeProcess& process_;
  const std::string starter_ = "mpirun";
};

class FakeExecutor : public Executor {
 public:
  std::unique_ptr<StartedGroup> Start(uint64_t group) override {
    if (broken) Throw(ErrorCode::kFailed, "mpirun cannot be started");
    starts.push_back(group);
    processes[group] = FakeProcess();
    return std::make_unique<FakeStartedGroup>(processes[group]);
  }
  int64_t terminate_ms() const override { return terminate; }
  int64_t start_timeout_ms() const override { return start_timeout; }

  std::vector<uint64_t> starts;
  std::map<uint64_t, FakeProcess> processes;  // The latest of each group.
  bool broken = false;
  int64_t terminate = 0;
  int64_t start_timeout = 10'000;
};

class SupervisorTest : public ::testing::Test {
 protected:
  void Make(uint64_t groups, bool relaunch = true) {
    supervisor_.emplace(
        groups, relaunch, executor_, clock_,
        SupervisorEvents{.on_ending =
                             [this](uint64_t group, LossCause, const auto& why) {
                               ending_.push_back({group, why});
                               return region_word_;
                             },
                         .on_ended = [this](const EndedGroup& ended) { ended_.push_back(ended); }});
    Poll();
  }
  void Poll(int times = 1) {
    for (int i = 0; i < times; ++i) {
      clock_.Advance(20);
      supervisor_->Poll();
    }
  }
  GroupStatus StatusOf(uint64_t group) {
    RegionStatus status;
    supervisor_->Complete(status);
    return status.groups.at(group);
  }

  ManualClock clock_;
  FakeExecutor executor_;
  RegionWord region_word_{.had_it = true};
  std::vector<std::pair<uint64_t, std::string>> ending_;
  std::vector<EndedGroup> ended_;
  std::optional<Supervisor> supervisor_;
};

TEST_F(SupervisorTest, StartsAllGroups) {
  Make(3);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 1, 2));
  EXPECT_EQ(StatusOf(2).state, GroupState::kForming);
  EXPECT_TRUE(StatusOf(2).managed);
}

TEST_F(SupervisorTest, StartsAGroupAnewWhoseProcessesEnd) {
  Make(2);
  supervisor_->OnReady(0, {});
  supervisor_->OnReady(1, {});
  executor_.processes[1].end = GroupEnd{.signal = 9, .rank = 1};
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 1, 1));
  ASSERT_THAT(ending_, SizeIs(1));
  EXPECT_EQ(ending_[0].first, 1);
  EXPECT_EQ(ending_[0].second, "rank 1 was ended by signal 9 (Killed)");
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_TRUE(ended_[0].by_itself);
  EXPECT_TRUE(ended_[0].was_ready);
  EXPECT_EQ(StatusOf(1).last_loss, "rank 1 was ended by signal 9 (Killed)");
  EXPECT_EQ(StatusOf(1).restarts_total, 1);
  EXPECT_EQ(StatusOf(0).last_loss, "");
}

TEST_F(SupervisorTest, KillsAGroupThatTheRegionHasLostAndStartsItAnew) {
  Make(1);
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kSilent, "no heartbeat");
  EXPECT_TRUE(executor_.processes[0].killed);
  Poll();
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
  EXPECT_THAT(ending_, IsEmpty()) << "it knows";
  EXPECT_EQ(StatusOf(0).last_loss, "no heartbeat");
}

TEST_F(SupervisorTest, SeesTheEndOfARankBeforeItsConnectionIsMissed) {
  Make(1);
  executor_.processes[0].ended_rank = "rank 1 (pid 43)";
  Poll(10);
  EXPECT_THAT(ending_, IsEmpty()) << "not ready: its command says more";
  supervisor_->OnReady(0, {{.rank = 0, .pid = 42}, {.rank = 1, .pid = 43}});
  EXPECT_THAT(executor_.processes[0].watched, ElementsAre(std::pair(0, 42), std::pair(1, 43)));
  Poll();
  ASSERT_THAT(ending_, SizeIs(1));
  EXPECT_EQ(ending_[0].second, "rank 1 (pid 43) ended");
  EXPECT_TRUE(executor_.processes[0].killed);
  Poll();
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
  EXPECT_EQ(StatusOf(0).last_loss, "rank 1 (pid 43) ended");
}

TEST_F(SupervisorTest, DoesNotMindTheEndOfRanksThatMayEnd) {
  Make(1);
  supervisor_->OnReady(0, {});
  supervisor_->ExpectDrain(0, /*restart=*/false);
  executor_.processes[0].ended_rank = "rank 0 (pid 42)";
  Poll(10);
  EXPECT_FALSE(executor_.processes[0].killed);
}

TEST_F(SupervisorTest, DoesNotTakeTheLossOfTheLastStartForOneOfTheNext) {
  Make(1);
  supervisor_->OnReady(0, {});
  executor_.processes[0].end = GroupEnd{.signal = 9};
  Poll(2);
  ASSERT_THAT(executor_.starts, SizeIs(2));
  supervisor_->OnLost(0, LossCause::kRankDied, "its processes ended");
  EXPECT_FALSE(executor_.processes[0].killed);
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kRankDied, "another loss");
  Poll();
  EXPECT_TRUE(executor_.processes[0].killed);
}

TEST_F(SupervisorTest, KnowsThatTheRegionSaysNothingOfAGroupThatItNeverHad) {
  region_word_.had_it = false;
  Make(1);
  executor_.processes[0].end = GroupEnd{.status = 1};
  Poll(2);
  ASSERT_THAT(executor_.starts, SizeIs(2));
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kRankDied, "a loss");
  EXPECT_TRUE(executor_.processes[0].killed);
}

TEST_F(SupervisorTest, WaitsForARemoteGroupToBeEndedByItsCommand) {
  executor_.terminate = 2'000;
  Make(1);
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kStuck, "stuck");
  EXPECT_TRUE(executor_.processes[0].terminated);
  Poll(50);
  EXPECT_FALSE(executor_.processes[0].killed);
  Poll(51);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
}

TEST_F(SupervisorTest, StartsAnewAlthoughAProcessDoesNotEnd) {
  Make(1);
  supervisor_->OnReady(0, {});
  executor_.processes[0].stuck = true;
  supervisor_->OnLost(0, LossCause::kStuck, "stuck");
  Poll(110);
  EXPECT_THAT(executor_.starts, ElementsAre(0)) << "it may still end";
  EXPECT_EQ(StatusOf(0).state, GroupState::kDraining);
  Poll(1'500);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
}

TEST_F(SupervisorTest, StartsAnewOnceAProcessHasEndedLate) {
  Make(1);
  supervisor_->OnReady(0, {});
  executor_.processes[0].stuck = true;
  supervisor_->OnLost(0, LossCause::kStuck, "stuck");
  Poll(110);
  executor_.processes[0].stuck = false;
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
}

TEST_F(SupervisorTest, SaysWhatEndedAGroupAlthoughItsConnectionsTellFirst) {
  Make(1);
  supervisor_->OnReady(0, {});
  executor_.processes[0].end = GroupEnd{.signal = 9};
  supervisor_->OnLost(0, LossCause::kRankDied, "a connection closed");
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_TRUE(ended_[0].by_itself);
  EXPECT_THAT(ended_[0].why, HasSubstr("was ended by signal 9 (Killed); a connection closed"));
}

TEST_F(SupervisorTest, PausesBetweenStartsThatFailAndSaysWhy) {
  Make(1);
  for (int start = 1; start <= 4; ++start) {
    executor_.processes[0].end =
        GroupEnd{.status = 2, .starter = "the command", .last_words = "no such file"};
    Poll();
    EXPECT_THAT(ended_, SizeIs(start));
    EXPECT_THAT(StatusOf(0).last_loss, "the command exited with status 2: no such file");
    EXPECT_EQ(StatusOf(0).state, GroupState::kLost);
    const int64_t pause_ms = start == 1 ? 0 : 250 << (start - 1);
    EXPECT_EQ(StatusOf(0).next_start_ms, pause_ms);
    Poll(static_cast<int>(pause_ms / 20) - 1);
    EXPECT_THAT(executor_.starts, SizeIs(start));
    Poll(2);
    EXPECT_THAT(executor_.starts, SizeIs(start + 1));
  }
}

TEST_F(SupervisorTest, TriesAgainWhatCannotEvenBeStarted) {
  executor_.broken = true;
  Make(1);
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_EQ(StatusOf(0).last_loss, "mpirun cannot be started");
  executor_.broken = false;
  Poll();
  EXPECT_THAT(executor_.starts, ElementsAre(0));
}

TEST_F(SupervisorTest, GivesUpAStartThatIsNeverReady) {
  Make(1);
  Poll(501);
  ASSERT_THAT(ending_, SizeIs(1));
  EXPECT_THAT(ending_[0].second, HasSubstr("not ready within 10000 ms"));
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
}

TEST_F(SupervisorTest, LetsAGroupBeFormedForAsLongAsItsExecutorAllows) {
  executor_.start_timeout = 0;
  Make(1);
  Poll(10'000);
  EXPECT_THAT(ended_, IsEmpty());
}

TEST_F(SupervisorTest, LeavesADrainedGroupAway) {
  Make(2);
  supervisor_->OnReady(0, {});
  supervisor_->OnReady(1, {});
  supervisor_->ExpectDrain(0, /*restart=*/false);
  executor_.processes[0].end = GroupEnd{};
  Poll(1'000);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 1));
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_TRUE(ended_[0].drained);
  EXPECT_EQ(StatusOf(0).state, GroupState::kLost);
  EXPECT_EQ(StatusOf(0).next_start_ms, -1);
  EXPECT_EQ(StatusOf(0).last_loss, "");
  supervisor_->StartNow(0);
  Poll();
  EXPECT_THAT(executor_.starts, ElementsAre(0, 1, 0));
}

TEST_F(SupervisorTest, StartsADrainedGroupAnewThatIsWantedBack) {
  Make(1);
  supervisor_->OnReady(0, {});
  supervisor_->ExpectDrain(0, /*restart=*/true);
  executor_.processes[0].end = GroupEnd{};
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 0));
  executor_.processes[0].end = GroupEnd{.signal = 9};
  Poll(2);
  EXPECT_THAT(executor_.starts, SizeIs(3)) << "that drain is over";
}

TEST_F(SupervisorTest, LetsADrainedGroupEndByItself) {
  Make(1);
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kDrained, "drained");
  Poll(100);
  EXPECT_FALSE(executor_.processes[0].killed);
  executor_.processes[0].end = GroupEnd{};
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0));
}

TEST_F(SupervisorTest, LearnsFromTheRegionThatAGroupWhoseRanksEndWasDrained) {
  Make(1);
  supervisor_->OnReady(0, {});
  region_word_.drained = true;
  executor_.processes[0].ended_rank = "rank 0 (pid 42)";
  Poll(10);
  EXPECT_FALSE(executor_.processes[0].killed);
  supervisor_->OnLost(0, LossCause::kDrained, "drained");
  executor_.processes[0].end = GroupEnd{};
  Poll(1'000);
  EXPECT_THAT(executor_.starts, ElementsAre(0));
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_TRUE(ended_[0].drained);
}

TEST_F(SupervisorTest, StartsNothingTwiceIfItIsNotTo) {
  Make(1, /*relaunch=*/false);
  supervisor_->OnReady(0, {});
  supervisor_->OnLost(0, LossCause::kRankDied, "a connection broke");
  Poll(10);
  EXPECT_FALSE(executor_.processes[0].killed) << "mpirun is about to say which rank failed";
  executor_.processes[0].end = GroupEnd{.signal = 9, .rank = 0};
  Poll(1'000);
  EXPECT_THAT(executor_.starts, ElementsAre(0));
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_EQ(ended_[0].why, "rank 0 was ended by signal 9 (Killed); a connection broke");
}

TEST_F(SupervisorTest, EndsAllGroupsWhenItStops) {
  Make(2);
  supervisor_->StopStarting();
  executor_.processes[0].end = GroupEnd{};
  Poll(2);
  EXPECT_THAT(executor_.starts, ElementsAre(0, 1));
  EXPECT_FALSE(supervisor_->all_gone());
  supervisor_->EndAll(/*grace_ms=*/1'000);
  EXPECT_TRUE(executor_.processes[1].terminated);
  Poll(49);
  EXPECT_FALSE(executor_.processes[1].killed);
  Poll(2);
  EXPECT_TRUE(executor_.processes[1].killed);
  EXPECT_TRUE(supervisor_->all_gone());
  EXPECT_THAT(ended_, IsEmpty()) << "no failures";
}

TEST_F(SupervisorTest, AddsWhatItKnowsToTheGroupsThatTheRegionHas) {
  Make(2);
  RegionStatus status;
  status.groups.push_back({.group = 1, .state = GroupState::kReady, .last_loss = "the region's"});
  status.groups.push_back({.group = 7, .state = GroupState::kReady});
  supervisor_->Complete(status);
  ASSERT_THAT(status.groups, SizeIs(3));
  EXPECT_EQ(status.groups[0].group, 0);
  EXPECT_EQ(status.groups[0].state, GroupState::kForming);
  EXPECT_TRUE(status.groups[1].managed);
  EXPECT_EQ(status.groups[1].last_loss, "the region's");
  EXPECT_FALSE(status.groups[2].managed);
}

}  // namespace
}  // namespace shoal::launch
