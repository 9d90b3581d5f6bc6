// What a region does with what its guard has decided.

#include <vector>

#include "coordinator/core/record/cause.h"
#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class GuardedRegionTest : public RegionTest {
 protected:
  GuardedRegionTest() : RegionTest(GuardedOptions()) {
    for (ConnectionId connection = 1; connection <= 3; ++connection) {
      RankRegistration rank = MakeRank(connection);
      rank.sequences_max = 16;
      rank.queue_requests_max = 16;
      epochs_.push_back(JoinReady(connection, rank));
    }
  }

  static RegionOptions GuardedOptions() {
    RegionOptions options = Options();
    options.groups_per_stream_max = 100;
    options.heartbeats_missed_max = 10'000;
    options.guard.outliers.ejection_ms = 2'000;
    options.guard.outliers.slow_start_ms = 1'000;
    options.guard.breakers = {{.metric = "queue_wait_ms",
                               .threshold = 500,
                               .recovery = 400,
                               .duration_ms = 200,
                               .recovery_ms = 500}};
    return options;
  }

  size_t GivenTo(uint64_t group) const {
    size_t count = 0;
    for (const auto& [id, stream] : region_.streams()) count += stream.group == group ? 1 : 0;
    return count;
  }

  // The leader of group 0 gives up what it has, and what it is given next, `count` times.
  void GiveUp(int count) {
    for (int i = 0; i < count; ++i) {
      const Group& group = region_.groups().at(0);
      // What it gives up goes elsewhere; having the least to do, it is given the next one.
      if (group.sequences.empty()) Submit();
      Take();
      ASSERT_FALSE(group.sequences.empty());
      SequenceUpdate update;
      update.id = *group.sequences.begin();
      update.finish = FinishReason::kCancelled;
      EXPECT_TRUE(region_.Update(1, epochs_[0], {update}, {}));
      Take();
    }
  }

  std::vector<RecordKind> Kinds(std::vector<RecordKind> asked) const {
    std::vector<RecordKind> kinds;
    for (const Record& record : region_.recorder().Find({}).records) {
      if (std::ranges::find(asked, record.kind) != asked.end()) kinds.push_back(record.kind);
    }
    return kinds;
  }

  std::vector<uint64_t> epochs_;
};

TEST_F(GuardedRegionTest, LeavesAGroupOutThatGivesRequestsUpAndTriesItAgain) {
  for (int i = 0; i < 6; ++i) Submit();
  Take();
  ASSERT_EQ(GivenTo(0), 2u);
  GiveUp(5);
  EXPECT_EQ(region_.groups().at(0).given_max, 0u);
  EXPECT_TRUE(region_.status().groups.at(0).ejected);
  const size_t left = GivenTo(0);
  const size_t streams = region_.streams().size();
  for (int i = 0; i < 6; ++i) Submit();
  Take();
  EXPECT_EQ(GivenTo(0), left);
  EXPECT_EQ(region_.streams().size(), streams + 6);
  EXPECT_EQ(region_.status().requests_waiting, 0);
  // What it still has ends well, which is no reason to have it back before its time.
  for (const auto& [id, stream] : StreamMap(region_.streams())) {
    if (stream.group != 0u) continue;
    EXPECT_TRUE(Answer(1, epochs_[0], id, {1}, FinishReason::kStop));
  }
  Take();
  EXPECT_EQ(region_.groups().at(0).given_max, 0u);
  TickFor(2'100);
  EXPECT_EQ(region_.groups().at(0).given_max, 1u);
  for (int i = 0; i < 4; ++i) Submit();
  Take();
  EXPECT_EQ(GivenTo(0), 1u);
  const auto tried = std::ranges::find_if(
      region_.streams(), [](const auto& entry) { return entry.second.group == 0u; });
  EXPECT_TRUE(Answer(1, epochs_[0], tried->first, {1}, FinishReason::kStop));
  Take();
  EXPECT_EQ(region_.groups().at(0).given_max, std::nullopt);
  EXPECT_FALSE(region_.status().groups.at(0).ejected);
  EXPECT_EQ(Kinds({RecordKind::kEjected, RecordKind::kReturned}),
            (std::vector{RecordKind::kEjected, RecordKind::kReturned}));
}

// A group that fails is soon the one with the least to do.
TEST_F(GuardedRegionTest, GivesWhatAGroupGaveUpToAnotherOne) {
  const StreamId stream = Submit();
  Take();
  ASSERT_EQ(region_.streams().at(stream).group, 0u);
  for (int i = 0; i < 6; ++i) Submit();
  SequenceUpdate update;
  update.id = region_.streams().at(stream).sequence;
  update.finish = FinishReason::kCancelled;
  for (const auto& [id, other] : StreamMap(region_.streams())) {
    if (id != stream && other.group == 0u) Cancel(id);
  }
  EXPECT_TRUE(region_.Update(1, epochs_[0], {update}, {}));
  const std::optional<uint64_t> group = region_.streams().at(stream).group;
  ASSERT_TRUE(group);
  EXPECT_NE(*group, 0u);
}

TEST_F(GuardedRegionTest, GoesOnWithWhatGaveARequestUpWhereThereIsNoOther) {
  region_.Disconnected(2, "gone");
  region_.Disconnected(3, "gone");
  const StreamId stream = Submit();
  SequenceUpdate update;
  update.id = region_.streams().at(stream).sequence;
  update.finish = FinishReason::kCancelled;
  EXPECT_TRUE(region_.Update(1, epochs_[0], {update}, {}));
  EXPECT_EQ(region_.streams().at(stream).group, 0u);
}

TEST_F(GuardedRegionTest, DoesNotBlameAGroupThatWasLostWhenItIsBack) {
  for (int i = 0; i < 30; ++i) Submit();
  Take();
  ASSERT_EQ(GivenTo(0), 10u);
  region_.Disconnected(1, "gone");
  Take();
  RankRegistration rank = MakeRank(9);
  rank.sequences_max = rank.queue_requests_max = 16;
  JoinReady(9, rank);
  EXPECT_EQ(region_.groups().at(0).given_max, std::nullopt);
  EXPECT_THAT(Kinds({RecordKind::kEjected}), IsEmpty());
}

TEST_F(GuardedRegionTest, MovesTheStreamsOfAGroupThatHasBecomeSlow) {
  for (int i = 0; i < 6; ++i) Submit();
  Take();
  ASSERT_EQ(GivenTo(0), 2u);
  std::vector<SchedulerStats> stats(3);
  for (int i = 0; i < 100; ++i) {
    for (size_t group = 0; group < 3; ++group) {
      stats[group].busy_us_total += 100'000;
      stats[group].steps_total += group == 0 ? 2 : 10;
      stats[group].generated_tokens_total += group == 0 ? 4 : 20;
      EXPECT_TRUE(region_.Update(group + 1, epochs_[group], {}, stats[group]));
    }
    TickFor(100);
    Take();
    if (region_.groups().at(0).given_max) break;
  }
  EXPECT_EQ(region_.groups().at(0).given_max, 0u);
  EXPECT_EQ(GivenTo(0), 0u);
  EXPECT_EQ(region_.streams().size(), 6u);
  EXPECT_THAT(Kinds({RecordKind::kEjected}), SizeIs(1));
  // It was not dismissed: that is what a drain is.
  EXPECT_THAT(Kinds({RecordKind::kDrained}), IsEmpty());
  EXPECT_EQ(region_.groups().at(0).state, GroupState::kReady);
}

TEST_F(GuardedRegionTest, RefusesLowClassesWhileABreakerIsOpen) {
  const StreamId slow = Submit();
  Take();
  TickFor(600);
  Request low = MakeRequest();
  low.terms.service_class = ServiceClass::kSheddable;
  Submit(low);
  TickFor(400);
  const StreamError refused = Refuse(low);
  EXPECT_EQ(refused.reason, BusyReason::kBreakerOpen);
  EXPECT_GT(refused.retry_after_ms, 0);
  EXPECT_TRUE(region_.status().breakers.at(0).open);
  // Its record says which breaker it was, and so what was short.
  const Record record = region_.recorder().Find({}).records.back();
  EXPECT_THAT(record.detail, HasSubstr("queue_wait_ms > 500: reject_low_priority"));
  CauseFinder finder;
  EXPECT_EQ(finder.Next(record)->cause, Cause::kCompute);
  Submit();  // Of class critical.
  Take();
  // All have their first token: nobody waits any more.
  for (const auto& [id, stream] : StreamMap(region_.streams())) {
    EXPECT_TRUE(Answer(*stream.group + 1, epochs_[*stream.group], id, {1}));
  }
  EXPECT_TRUE(region_.streams().contains(slow));
  TickFor(600 + 3'100);
  EXPECT_FALSE(region_.status().breakers.at(0).open);
  Submit(low);
  Take();
  EXPECT_EQ(
      Kinds({RecordKind::kBreakerOpened, RecordKind::kBreakerProbed, RecordKind::kBreakerClosed}),
      (std::vector{RecordKind::kBreakerOpened, RecordKind::kBreakerProbed,
                   RecordKind::kBreakerClosed}));
}

TEST_F(GuardedRegionTest, RoutesByWhatGroupsReportOfTheirPrefixes) {
  Request request = MakeRequest(4, 40);
  const std::vector<uint64_t> hashes = PrefixHashes("", request.prompt);
  EXPECT_TRUE(region_.Update(3, epochs_[2], {}, {}, {.full = true, .added = hashes}));
  const StreamId stream = Submit(request);
  EXPECT_EQ(region_.streams().at(stream).group, 2u);
  // A request whose prompt is computed in any case goes by the load.
  request.params.prompt_logprobs = true;
  EXPECT_EQ(region_.streams().at(Submit(request)).group, 0u);
  // The group is started anew, and has nothing.
  region_.Disconnected(3, "gone");
  Take();
  RankRegistration rank = MakeRank(9);
  rank.sequences_max = rank.queue_requests_max = 16;
  JoinReady(9, rank);
  EXPECT_EQ(region_.groups().at(2).prefixes.size(), 0u);
}

TEST_F(GuardedRegionTest, GoesByTheRulesAsTheyAreNow) {
  GuardRules rules = GuardedOptions().guard;
  GuardRules stricter = rules;
  stricter.breakers[0].line = 9;  // Elsewhere in its file, but the same.
  stricter.breakers.push_back({.metric = "error_rate", .threshold = 5, .duration_ms = 100});
  region_.SetGuardRules(stricter);
  EXPECT_EQ(region_.status().breakers.size(), 2u);
  stricter.outliers.errors_max = 2;
  region_.SetGuardRules(stricter);
  for (int i = 0; i < 6; ++i) Submit();
  Take();
  GiveUp(2);
  EXPECT_EQ(region_.groups().at(0).given_max, 0u) << "two errors are enough now";
}

}  // namespace
}  // namespace shoal::core
