// A group that is to end gives its streams away, or lets them come to their end, and is then
// dismissed.

#include <algorithm>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Ints = std::vector<int32_t>;

TEST_F(RegionTest, MovesTheStreamsOfADrainedGroupElsewhere) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  const SequenceId old = SequenceOf(stream);
  const uint64_t other = JoinReady(2, MakeRank(2));
  EXPECT_EQ(region_.Drain(0), "");
  auto actions = Take();
  const auto cancels = Select<CancelAction>(actions);
  ASSERT_THAT(cancels, SizeIs(1));
  EXPECT_EQ(cancels[0].sequence, old);
  const auto submits = Select<SubmitAction>(actions);
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].leader, 2u);
  EXPECT_EQ(submits[0].request.generated, (Ints{4}));
  EXPECT_THAT(Select<StopAction>(actions), IsEmpty()) << "it has not confirmed yet";
  EXPECT_EQ(region_.status().groups[0].state, GroupState::kDraining);

  EXPECT_TRUE(Answer(1, epoch, old, {5}, FinishReason::kNone, 1)) << "it was under way";
  EXPECT_TRUE(Answer(1, epoch, old, {}, FinishReason::kCancelled, 2));
  actions = Take();
  EXPECT_THAT(Select<DeliverAction>(actions), IsEmpty());
  EXPECT_THAT(Select<StopAction>(actions), SizeIs(1));
  EXPECT_TRUE(Answer(2, other, stream, {5, 6, 7}, FinishReason::kLength));
  EXPECT_EQ(Heard(Take(), stream).resumes, 1);
  region_.Disconnected(1, "its connection closed");
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kDrained);
  const RegionStatus status = region_.status();
  EXPECT_EQ(status.group_losses_total, 0);
  EXPECT_EQ(status.streams_resumed[static_cast<size_t>(LossCause::kDrained)], 1);
  const RecordPage page = region_.recorder().Find({});
  const auto parked = std::ranges::find(page.records, RecordKind::kParked, &Record::kind);
  ASSERT_NE(parked, page.records.end()) << "why it moved is told";
  EXPECT_EQ(parked->reason, BusyReason::kDraining);
  EXPECT_THAT(parked->detail, HasSubstr("is drained"));
}

TEST_F(RegionTest, LetsStreamsEndWhereNoOtherGroupHasRoom) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(region_.DrainRequested(1, epoch)) << "its leader was told to end";
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(Refuse().reason, BusyReason::kNoGroup);
  EXPECT_TRUE(Answer(1, epoch, stream, {4}, FinishReason::kStop));
  const auto actions = Take();
  EXPECT_THAT(Select<DeliverAction>(actions), SizeIs(1));
  EXPECT_THAT(Select<StopAction>(actions), SizeIs(1));
  EXPECT_TRUE(region_.DrainRequested(1, epoch)) << "once more does no harm";
  EXPECT_FALSE(region_.DrainRequested(1, epoch + 1));
}

TEST_F(RegionTest, ParksWhatIsLeftWhenTheTimeToDrainIsOver) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  EXPECT_EQ(region_.Drain(0), "");
  KeepAlive(1, 29'900);
  EXPECT_THAT(Select<StopAction>(Take()), IsEmpty());
  KeepAlive(1, 200);
  EXPECT_THAT(Select<StopAction>(Take()), SizeIs(1));
  EXPECT_EQ(region_.streams().at(stream).group, std::nullopt);
  EXPECT_TRUE(Answer(1, epoch, SequenceOf(stream), {5}, FinishReason::kNone, 1)) << "ignored";
  EXPECT_THAT(Take(), IsEmpty());
  JoinReady(2, MakeRank(2));
  EXPECT_EQ(region_.streams().at(stream).group, 1u);
}

TEST_F(RegionTest, ClosesOnADismissedGroupThatDoesNotLeave) {
  JoinReady(1, MakeRank(1));
  EXPECT_EQ(region_.Drain(0), "");
  EXPECT_THAT(Select<StopAction>(Take()), SizeIs(1));
  KeepAlive(1, 4'900);
  EXPECT_THAT(Take(), IsEmpty());
  TickFor(200);
  EXPECT_THAT(Select<CloseAction>(Take()), SizeIs(1));
  EXPECT_TRUE(region_.groups().empty());
}

TEST_F(RegionTest, SaysWhyAGroupCannotBeDrained) {
  EXPECT_THAT(region_.Drain(0), HasSubstr("there is no group 0"));
  Join(1, MakeRank(1));
  EXPECT_THAT(region_.Drain(0), HasSubstr("group 0 is canary"));
  JoinReady(2, MakeRank(2));
  EXPECT_EQ(region_.Drain(1), "");
  EXPECT_THAT(region_.Drain(1), HasSubstr("is about to end already"));
}

TEST_F(RegionTest, LosesAGroupThatDiesWhileItDrains) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  EXPECT_EQ(region_.Drain(0), "");
  region_.Disconnected(1, "closed");
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kRankDied);
  EXPECT_TRUE(region_.streams().contains(stream));
}

}  // namespace
}  // namespace shoal::core
