// Requests with a deadline: refused before any work, never started late, ended on time.

#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DeadlinesTest : public RegionTest {
 protected:
  static Request WithDeadline(int64_t deadline_ms) {
    Request request = MakeRequest();
    request.terms.deadline_ms = deadline_ms;
    return request;
  }
};

TEST_F(DeadlinesTest, EndsARunningStreamOnTimeThereAndHere) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit(WithDeadline(250));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.deadline_ms, 250);
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  clock_.Advance(249);
  region_.EndOverdue();
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty());
  EXPECT_EQ(region_.next_deadline(), clock_.now() + kMillisecondNs);
  clock_.Advance(1);
  region_.EndOverdue();
  EXPECT_EQ(region_.next_deadline(), std::nullopt);
  const std::vector<Action> actions = Take();
  const auto fails = Select<FailAction>(actions);
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].error.reason, BusyReason::kDeadlineExceeded);
  EXPECT_THAT(fails[0].error.message, HasSubstr("250 ms, with 1 tokens"));
  ASSERT_THAT(Select<CancelAction>(actions), SizeIs(1));
  EXPECT_EQ(Select<CancelAction>(actions)[0].sequence, SequenceOf(stream));
  const std::vector<Record> records = region_.recorder().Find({}).records;
  EXPECT_EQ(records.back().kind, RecordKind::kExpired);
  EXPECT_EQ(records.back().stream, stream);
}

TEST_F(DeadlinesTest, NeverStartsWhatIsOverdue) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  std::vector<StreamId> ahead;
  for (int i = 0; i < 3; ++i) ahead.push_back(Submit());
  const StreamId late = Submit(WithDeadline(50));
  Take();
  clock_.Advance(50);
  // A place comes free before anybody has looked at the clock.
  EXPECT_TRUE(Answer(1, epoch, ahead[0], {1}, FinishReason::kStop));
  const std::vector<Action> actions = Take();
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty());
  const auto fails = Select<FailAction>(actions);
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].stream, late);
  EXPECT_THAT(fails[0].error.message, HasSubstr("before it had a place"));
}

TEST_F(DeadlinesTest, TellsNothingThatComesTooLateThoughNobodyHasLookedAtTheClock) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit(WithDeadline(100));
  Take();
  clock_.Advance(300);
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  const std::vector<Action> actions = Take();
  EXPECT_THAT(Select<DeliverAction>(actions), IsEmpty());
  ASSERT_THAT(Select<FailAction>(actions), SizeIs(1));
  EXPECT_EQ(Select<FailAction>(actions)[0].error.reason, BusyReason::kDeadlineExceeded);
}

TEST_F(DeadlinesTest, DoesNotMoveWhatIsOverdueToAnotherGroup) {
  JoinReady(1, MakeRank(1));
  JoinReady(2, MakeRank(2));
  const StreamId stream = Submit(WithDeadline(100));
  Take();
  const uint64_t group = *region_.streams().at(stream).group;
  clock_.Advance(300);
  EXPECT_EQ(region_.Drain(group), "");
  const std::vector<Action> actions = Take();
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty());
  EXPECT_THAT(Select<FailAction>(actions), SizeIs(1));
}

TEST_F(DeadlinesTest, KeepsItsDeadlineWhenItsGroupIsLost) {
  JoinReady(1, MakeRank(1));
  const StreamId stream = Submit(WithDeadline(2'000));
  Take();
  clock_.Advance(700);
  region_.Disconnected(1, "closed");
  Take();
  clock_.Advance(200);
  JoinReady(2, MakeRank(2));
  const SequenceId sequence = region_.streams().at(stream).sequence;
  EXPECT_NE(sequence, 0U);
  EXPECT_EQ(*region_.next_deadline() - clock_.now(), 1'100 * kMillisecondNs);
}

TEST_F(DeadlinesTest, TakesItsLeadersWordThatTheTimeIsOver) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit(WithDeadline(1'000));
  Take();
  SequenceUpdate update;
  update.id = SequenceOf(stream);
  update.finish = FinishReason::kCancelled;
  update.detail = kDeadlineOver;
  EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].error.reason, BusyReason::kDeadlineExceeded);
}

TEST_F(DeadlinesTest, LetsAHeldStreamHaveWhatIsLeftOfIt) {
  const uint64_t epoch = Join(1, MakeRank(1)).front().epoch;
  HeldStream held;
  held.request = {.id = 77, .prompt = {1, 2}, .params = {}, .stream = {1, 2}, .resumable = true};
  held.request.deadline_ms = 300;
  held.all.id = 77;
  EXPECT_TRUE(region_.HandOver(1, epoch, {held}, true));
  ASSERT_THAT(region_.streams(), SizeIs(1));
  EXPECT_EQ(region_.next_deadline(), clock_.now() + 300 * kMillisecondNs);
  clock_.Advance(300);
  region_.EndOverdue();
  EXPECT_THAT(region_.streams(), IsEmpty());
}

class UnprotectedTest : public RegionTest {
 protected:
  UnprotectedTest() : RegionTest(Unprotected()) {}
  static RegionOptions Unprotected() {
    RegionOptions options = Options();
    options.protections.admission = false;
    return options;
  }
};

TEST_F(UnprotectedTest, MindsNeitherDeadlineNorClassWithoutTheProtection) {
  JoinReady(1, MakeRank(1));
  Request request = MakeRequest();
  request.terms.deadline_ms = 10;
  request.terms.service_class = ServiceClass::kSheddable;
  Submit(request);
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.deadline_ms, 0);
  EXPECT_EQ(submits[0].request.service_class, ServiceClass::kCritical);
  EXPECT_EQ(region_.next_deadline(), std::nullopt);
}

TEST_F(RegionTest, SaysWhetherMemoryIsWhatIsLacking) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  for (int i = 0; i < 5; ++i) Submit();
  Take();
  EXPECT_EQ(Refuse().reason, BusyReason::kQueueFull);
  // One of its two slots is free, and yet two wait there.
  SchedulerStats stats;
  stats.sequences_running = 1;
  stats.requests_waiting = 2;
  stats.kv_blocks_total = 10;
  EXPECT_TRUE(region_.Update(1, epoch, {}, stats));
  EXPECT_EQ(Refuse().reason, BusyReason::kQueueFull) << "they may have come a moment ago";
  stats.kv_blocks_used = 8;
  EXPECT_TRUE(region_.Update(1, epoch, {}, stats));
  const StreamError error = Refuse();
  EXPECT_EQ(error.reason, BusyReason::kKvFull);
  EXPECT_GT(error.retry_after_ms, 0);
}

}  // namespace
}  // namespace shoal::core
