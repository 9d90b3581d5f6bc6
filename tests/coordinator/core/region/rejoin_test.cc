// A group whose rank's connection breaks gets a moment to have it back, and goes on where it was.

#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Ints = std::vector<int32_t>;
using Kind = RegisterOutcome::Kind;

class RejoinTest : public RegionTest {
 protected:
  RejoinTest() : RegionTest(WithGrace()) { epoch_ = JoinReady(10, MakeRank(1, 0, 2)); }

  static RegionOptions WithGrace() {
    RegionOptions options = Options();
    options.rejoin_grace_ms = 200;
    options.boot = 500;
    return options;
  }

  RegisterOutcome Back(ConnectionId connection, int32_t rank) {
    RankRegistration registration = MakeRank(1, rank, 2);
    registration.pid = 4000 + rank;
    registration.last_epoch = epoch_;
    return region_.Register(connection, registration);
  }

  SequenceUpdate Told(StreamId stream, int64_t before, Ints tokens) const {
    SequenceUpdate update;
    update.id = SequenceOf(stream);
    update.tokens_before = before;
    update.tokens = std::move(tokens);
    return update;
  }

  uint64_t epoch_ = 0;
};

TEST_F(RejoinTest, TakesARankBackWithinTheGrace) {
  const StreamId stream = Submit();
  Take();
  region_.Disconnected(11, "reset");
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(region_.status().groups[0].ranks[1].state, "missing");
  Submit();
  EXPECT_THAT(Select<SubmitAction>(Take()), IsEmpty()) << "nothing new while a rank is away";
  TickFor(200);
  const RegisterOutcome outcome = Back(21, 1);
  EXPECT_EQ(outcome.kind, Kind::kAccepted);
  EXPECT_TRUE(outcome.continued);
  EXPECT_EQ(outcome.epoch, epoch_);
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(1)) << "what had to wait";
  EXPECT_TRUE(region_.Heartbeat(21, epoch_, 1, true));
  EXPECT_FALSE(region_.Heartbeat(11, epoch_, 1, true));
  EXPECT_TRUE(Answer(10, epoch_, stream, {4}));
  TickFor(500);
  EXPECT_THAT(Select<GroupLostAction>(Take()), IsEmpty());
}

TEST_F(RejoinTest, LosesTheGroupWhenTheGraceIsOver) {
  region_.Disconnected(11, "reset by peer");
  TickFor(300);
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kRankDied);
  EXPECT_THAT(lost[0].why, HasSubstr("rank 1 (node7, pid 4001): reset by peer"));
  EXPECT_EQ(Back(21, 1).kind, Kind::kStale);
}

TEST_F(RejoinTest, TakesAGroupBackWhoseConnectionsAllBrokeAtOnce) {
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(Answer(10, epoch_, stream, {4}));
  Take();
  region_.Disconnected(10, "reset");
  region_.Disconnected(11, "reset");
  EXPECT_THAT(Take(), IsEmpty());
  TickFor(200);
  EXPECT_TRUE(Back(21, 1).continued);
  EXPECT_TRUE(Back(20, 0).continued);
  EXPECT_TRUE(region_.Update(20, epoch_, {Told(stream, 0, {4, 5})}, {}));
  EXPECT_TRUE(region_.HandOver(20, epoch_, {}, /*last=*/true));
  const auto actions = Take();
  EXPECT_THAT(Select<GroupLostAction>(actions), IsEmpty());
  EXPECT_EQ(Heard(actions, stream).tokens, (Ints{5}));
}

TEST_F(RejoinTest, LosesAGroupThatDoesNotComeBackWithinHalfASecond) {
  JoinReady(30, MakeRank(3));
  region_.Disconnected(30, "reset by peer");
  EXPECT_THAT(Select<GroupLostAction>(Take()), IsEmpty()) << "its only rank may come back";
  TickFor(500);
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].group, 1U);
  EXPECT_EQ(lost[0].cause, LossCause::kRankDied);
  EXPECT_THAT(lost[0].why, HasSubstr("reset by peer"));
}

TEST_F(RejoinTest, LosesAGroupThatIsAwayOnceTheExecutorSaysThatItEnded) {
  region_.Disconnected(10, "closed");
  region_.Disconnected(11, "closed");
  EXPECT_TRUE(region_.GroupEnded(0, LossCause::kOutOfMemory, "mpirun ended with 137"));
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kOutOfMemory);
}

TEST_F(RejoinTest, LetsADismissedGroupGoAtOnce) {
  EXPECT_EQ(region_.Drain(0), "");
  EXPECT_THAT(Select<StopAction>(Take()), SizeIs(1));
  region_.Disconnected(11, "closed");
  region_.Disconnected(10, "closed");
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kDrained);
}

TEST_F(RejoinTest, TakesARankBackThatHasNotHeardThatItWasAccepted) {
  ConnectionId connection = 11;
  for (const uint64_t epoch_before : {uint64_t{7}, uint64_t{0}}) {
    region_.Disconnected(connection++, "reset");
    RankRegistration registration = MakeRank(1, 1, 2);
    registration.pid = 4001;
    registration.last_epoch = epoch_before;
    const RegisterOutcome outcome = region_.Register(connection, registration);
    EXPECT_EQ(outcome.kind, Kind::kAccepted) << outcome.message;
    EXPECT_TRUE(outcome.continued);
    EXPECT_EQ(outcome.epoch, epoch_);
    Take();
  }
}

TEST_F(RejoinTest, GivesNoGraceWhereTheRankOrTheExecutorSaidWhy) {
  uint64_t epoch = JoinReady(30, MakeRank(3, 0, 2));
  EXPECT_TRUE(region_.Fault(31, epoch, LossCause::kWrongAnswer, "its sums differ"));
  auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kWrongAnswer);
  EXPECT_THAT(lost[0].why, HasSubstr("rank 1 (node7, pid 4001): its sums differ; its ranks were "
                                     "rank 0 (node7, pid 4000), rank 1 (node7, pid 4001)"));
  EXPECT_FALSE(region_.Fault(31, epoch, LossCause::kWrongAnswer, "again"));

  JoinReady(40, MakeRank(4, 0, 2));
  EXPECT_TRUE(region_.GroupEnded(0, LossCause::kOutOfMemory, "mpirun ended with 137"));
  lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kOutOfMemory);
  EXPECT_FALSE(region_.GroupEnded(0, LossCause::kRankDied, "again"));
}

TEST_F(RejoinTest, GoesOnWithWhatTheLeaderStillHas) {
  const StreamId known = Submit();
  const StreamId forgotten = Submit();
  const StreamId cancelled = Submit();
  Take();
  EXPECT_TRUE(Answer(10, epoch_, known, {4}));
  EXPECT_TRUE(Answer(10, epoch_, forgotten, {7}));
  const SequenceId old = SequenceOf(forgotten);
  region_.Disconnected(10, "reset");
  Cancel(cancelled);
  Take();
  EXPECT_TRUE(Back(20, 0).continued);
  const auto cancels = Select<CancelAction>(Take());
  ASSERT_THAT(cancels, SizeIs(1)) << "it may not have heard";
  EXPECT_EQ(cancels[0].leader, 20u);
  EXPECT_EQ(cancels[0].sequence, SequenceOf(cancelled));

  EXPECT_TRUE(region_.Update(20, epoch_, {Told(known, 0, {4, 5})}, {}));
  EXPECT_EQ(Heard(Take(), known).tokens, (Ints{5}));
  EXPECT_TRUE(region_.HandOver(20, epoch_, {}, /*last=*/true));
  const auto again = Select<SubmitAction>(Take());
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].request.stream, forgotten);
  EXPECT_EQ(again[0].request.generated, (Ints{7}));
  EXPECT_GT(again[0].request.id, old);

  // What the leader knows and nobody wants any more is cancelled there, without harm.
  SequenceUpdate stray = Told(forgotten, 1, {8});
  stray.id = old;
  EXPECT_TRUE(region_.Update(20, epoch_, {stray}, {}));
  const auto actions = Take();
  EXPECT_THAT(Select<GroupLostAction>(actions), IsEmpty());
  ASSERT_THAT(Select<CancelAction>(actions), SizeIs(1));
  EXPECT_EQ(Select<CancelAction>(actions)[0].sequence, old);
}

TEST_F(RejoinTest, DismissesAGroupThatWasDrainedWhileItsLeaderWasAway) {
  const StreamId stream = Submit();
  Take();
  region_.Disconnected(10, "reset");
  EXPECT_EQ(region_.Drain(0), "");
  EXPECT_THAT(Take(), IsEmpty()) << "nobody there to hear it";
  EXPECT_TRUE(Back(20, 0).continued);
  EXPECT_TRUE(region_.HandOver(20, epoch_, {}, true));
  const auto actions = Take();
  EXPECT_THAT(Select<StopAction>(actions), SizeIs(1)) << "it knows of no sequence any more";
  EXPECT_EQ(region_.streams().at(stream).group, std::nullopt);
}

TEST_F(RejoinTest, TakesTheNewConnectionWhereTheOldOneStillSeemsToStand) {
  EXPECT_TRUE(Back(21, 1).continued);
  const auto closes = Select<CloseAction>(Take());
  ASSERT_THAT(closes, SizeIs(1));
  EXPECT_EQ(closes[0].connection, 11u);
  region_.Disconnected(11, "closed");
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_TRUE(region_.Heartbeat(21, epoch_, 1, true));
}

TEST_F(RejoinTest, RefusesAStrangerInAnAbsentRanksPlace) {
  region_.Disconnected(11, "reset");
  RankRegistration other = MakeRank(1, 1, 2);
  other.pid = 9;
  other.last_epoch = epoch_;
  EXPECT_EQ(region_.Register(21, other).kind, Kind::kMismatch);
  RankRegistration earlier = MakeRank(1, 1, 2);
  earlier.pid = 4001;
  earlier.last_epoch = epoch_ + 5;
  EXPECT_EQ(region_.Register(22, earlier).kind, Kind::kMismatch);
}

TEST_F(RejoinTest, LosesALeaderThatComesBackAndSaysNothing) {
  Submit();
  Take();
  region_.Disconnected(10, "reset");
  EXPECT_TRUE(Back(20, 0).continued);
  for (int i = 0; i < 52; ++i) {
    for (const ConnectionId connection : {11, 20}) {
      (void)region_.Heartbeat(connection, epoch_, static_cast<uint64_t>(i), true);
    }
    TickFor(100);
  }
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kStuck);
}

TEST_F(RegionTest, NumbersEpochsAboveAllThatARankHasHad) {
  RankRegistration rank = MakeRank(1);
  rank.last_epoch = 1'000;
  EXPECT_EQ(region_.Register(1, rank).epoch, 1'001u);
  RankRegistration liar = MakeRank(2);
  liar.last_epoch = UINT64_MAX;
  EXPECT_EQ(region_.Register(2, liar).epoch, 1'002u);
}

TEST(ManagedGroups, HaveTheirOwnNumbers) {
  ManualClock clock;
  RegionOptions options;
  options.managed_groups = 2;
  options.boot = 500;
  options.rejoin_grace_ms = 0;
  Region region(options, clock, MakeTestRandom());
  const auto join = [&](uint64_t id, std::optional<uint64_t> number) {
    RankRegistration rank = MakeRank(id);
    rank.group_number = number;
    return region.Register(id, rank);
  };
  EXPECT_EQ(join(1, std::nullopt).group, 2u);
  EXPECT_EQ(join(2, 1).group, 1u);
  EXPECT_EQ(join(3, 7).group, 3u) << "of a coordinator that managed more";
  const RegisterOutcome taken = join(4, 1);
  EXPECT_EQ(taken.kind, Kind::kRetry);
  EXPECT_THAT(taken.message, HasSubstr("group 1 (epoch 502"));
  region.Disconnected(2, "closed");
  const RegionStatus status = region.status();
  ASSERT_THAT(status.groups, SizeIs(4));
  EXPECT_EQ(status.groups[0].state, GroupState::kLost);
  EXPECT_EQ(status.groups[0].last_loss, "") << "it was never there";
  EXPECT_EQ(status.groups[1].state, GroupState::kLost);
  EXPECT_TRUE(status.groups[1].managed);
  EXPECT_THAT(status.groups[1].last_loss, HasSubstr("closed"));
  EXPECT_EQ(status.groups[2].state, GroupState::kCanary);
  EXPECT_FALSE(status.groups[2].managed);
}

TEST(ManagedGroups, LeaveTheirNumbersToWhatThisCoordinatorHasStarted) {
  ManualClock clock;
  RegionOptions options;
  options.managed_groups = 1;
  options.boot = 500;
  Region region(options, clock, MakeTestRandom());
  RankRegistration old = MakeRank(1);
  old.group_number = 0;
  old.last_epoch = 400;  // Of the coordinator before, which had started it.
  const RegisterOutcome rejoined = region.Register(1, old);
  EXPECT_EQ(rejoined.group, 1u);
  EXPECT_TRUE(region.HandOver(1, rejoined.epoch, {}, /*last=*/true));
  RankRegistration started = MakeRank(2);
  started.group_number = 0;
  EXPECT_EQ(region.Register(2, started).group, 0u);
  EXPECT_TRUE(region.GroupEnded(0, LossCause::kRankDied, "its processes ended"));
  EXPECT_FALSE(region.GroupEnded(0, LossCause::kRankDied, "its processes ended"));
  EXPECT_TRUE(region.Heartbeat(1, rejoined.epoch, 0, false)) << "it is another one";

  region.Disconnected(1, "closed");
  old.last_epoch = rejoined.epoch;
  const RegisterOutcome back = region.Register(3, old);
  EXPECT_TRUE(back.continued);
  EXPECT_EQ(back.group, 1u);
}

}  // namespace
}  // namespace shoal::core
