// A request's story, of hand-made records and of those that a region notes.

#include "coordinator/core/record/story.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr StreamId kStream{7, 9};

Record At(int64_t ms, Record record) {
  record.time = ms * kMillisecondNs;
  record.unix_ms = 1'000'000 + ms;
  record.request = "r";
  if (record.kind != RecordKind::kRejected) record.stream = kStream;
  return record;
}

std::vector<RecordKind> KindsOf(const Story& story) {
  std::vector<RecordKind> kinds;
  for (const StoryLine& line : story.lines) kinds.push_back(line.kind);
  return kinds;
}

// That figure of a line; -1 if it has none, or nobody says where it is from.
double FigureOf(const StoryLine& line, const std::string& name) {
  for (const RecordFigure& figure : line.figures) {
    if (figure.name == name && !figure.source.empty()) return figure.value;
  }
  return -1;
}

TEST(TellStories, TellsOfAQueueALossAndTheEnd) {
  const std::vector<Record> records = {
      At(100, {.kind = RecordKind::kAdmitted,
               .tenant = "acme",
               .service_class = ServiceClass::kCritical,
               .figures = {{"predicted_wait_ms", 40, "the groups' reports"}}}),
      At(150, {.kind = RecordKind::kPlaced, .group = 1}),
      At(160, {.kind = RecordKind::kFirstToken, .group = 1}),
      At(170, {.kind = RecordKind::kPreempted, .group = 1}),
      At(200, {.kind = RecordKind::kParked, .group = 1, .detail = "group 1 was lost: killed"}),
      At(230, {.kind = RecordKind::kPlaced, .group = 2}),
      At(300, {.kind = RecordKind::kFinished, .group = 2, .detail = "length"})};
  const std::vector<Story> stories = TellStories(records);
  ASSERT_THAT(stories, SizeIs(1));
  const Story& story = stories[0];
  EXPECT_EQ(story.outcome, Outcome::kFinished);
  EXPECT_EQ(story.tenant, "acme");
  EXPECT_EQ(story.began_unix_ms, 1'000'100);
  ASSERT_THAT(story.lines, SizeIs(7));
  EXPECT_EQ(story.lines[0].at_ms, 0);
  EXPECT_EQ(FigureOf(story.lines[0], "predicted_wait_ms"), 40);
  EXPECT_EQ(FigureOf(story.lines[1], "queued_ms"), 50);
  EXPECT_THAT(story.lines[3].what,
              HasSubstr("preempted by group 1: its place went to another one"));
  EXPECT_THAT(story.lines[4].what,
              HasSubstr("parked because group 1 was lost: group 1 was lost: killed"));
  EXPECT_THAT(story.lines[5].what, HasSubstr("resumed: goes on with group 2"));
  EXPECT_EQ(FigureOf(story.lines[5], "without_group_ms"), 30);
  EXPECT_EQ(story.lines[6].at_ms, 200);
  EXPECT_THAT(story.advice, IsEmpty());
}

TEST(TellStories, TellsARefusalItsFiguresAndWhatToDo) {
  StreamError error = MakeStreamError(BusyReason::kQuotaExceeded, "12 of 10 tokens");
  error.retry_after_ms = 700;
  const std::vector<Story> stories =
      TellStories(std::vector<Record>{At(5, RejectionOf({.name = "r"}, error))});
  ASSERT_THAT(stories, SizeIs(1));
  EXPECT_EQ(stories[0].outcome, Outcome::kRefused);
  EXPECT_EQ(stories[0].reason, BusyReason::kQuotaExceeded);
  EXPECT_EQ(FigureOf(stories[0].lines[0], "retry_after_ms"), 700);
  EXPECT_THAT(stories[0].advice, ElementsAre(HasSubstr("retry after 700 ms (what it was told)"),
                                             HasSubstr("--tenants-file")));
}

TEST(TellStories, TellsTriesOfOneNameApart) {
  const std::vector<Record> records = {
      At(0, {.kind = RecordKind::kRejected, .reason = BusyReason::kQueueFull}),
      At(10, {.kind = RecordKind::kRejected, .reason = BusyReason::kNoGroup}),
      At(20, {.kind = RecordKind::kAdmitted})};
  const std::vector<Story> stories = TellStories(records);
  ASSERT_THAT(stories, SizeIs(3));
  EXPECT_EQ(stories[1].reason, BusyReason::kNoGroup);
  EXPECT_EQ(stories[2].outcome, Outcome::kUnderWay);
  EXPECT_THAT(stories[2].advice, ElementsAre(HasSubstr("has not ended")));
}

TEST(TellStories, HasWordsAndAdviceForEveryReason) {
  for (int i = 0; i < kBusyReasons; ++i) {
    const Record record =
        At(0, {.kind = RecordKind::kRejected, .reason = static_cast<BusyReason>(i)});
    const std::vector<Story> stories = TellStories(std::vector<Record>{record});
    ASSERT_THAT(stories, SizeIs(1));
    EXPECT_THAT(stories[0].advice, SizeIs(1)) << i;
    EXPECT_THAT(stories[0].advice[0], Not(IsEmpty())) << i;
  }
}

TEST(TellStories, LeavesGroupsOut) {
  EXPECT_THAT(TellStories(std::vector<Record>{{.kind = RecordKind::kGroupLost, .group = 1}}),
              IsEmpty());
}

// What a real region notes makes the same story.
class RegionStoryTest : public RegionTest {
 protected:
  Story TellOf(const std::string& request) {
    const std::vector<Story> stories =
        TellStories(region_.recorder().Find({.request = request}).records);
    EXPECT_THAT(stories, SizeIs(1));
    return stories.empty() ? Story() : stories.back();
  }
};

TEST_F(RegionStoryTest, TellsWhatBecameOfAStreamWhoseGroupWasLost) {
  JoinReady(1, MakeRank(1));
  Request request = MakeRequest();
  request.terms.name = "mine";
  const StreamId stream = Submit(request);
  Take();
  region_.Disconnected(1, "killed");
  Take();
  EXPECT_THAT(KindsOf(TellOf("mine")),
              ElementsAre(RecordKind::kAdmitted, RecordKind::kPlaced, RecordKind::kParked));
  clock_.Advance(250);
  const uint64_t epoch = JoinReady(5, MakeRank(2));
  ASSERT_TRUE(Answer(5, epoch, stream, {1, 2, 3, 4}, FinishReason::kLength));
  const Story story = TellOf("mine");
  EXPECT_EQ(story.outcome, Outcome::kFinished);
  ASSERT_THAT(story.lines, SizeIs(6));
  EXPECT_THAT(story.lines[2].what, HasSubstr("killed"));
  EXPECT_EQ(FigureOf(story.lines[3], "without_group_ms"), 250);
  EXPECT_EQ(FigureOf(story.lines[5], "generated_tokens"), 4);
  EXPECT_EQ(FigureOf(story.lines[5], "groups_lost"), 1);
}

TEST_F(RegionStoryTest, TellsARefusalForWantOfAGroup) {
  Request request = MakeRequest();
  request.terms.name = "early";
  ASSERT_TRUE(std::holds_alternative<StreamError>(region_.Submit(request)));
  const Story story = TellOf("early");
  EXPECT_EQ(story.outcome, Outcome::kRefused);
  EXPECT_EQ(story.reason, BusyReason::kNoGroup);
  EXPECT_GT(FigureOf(story.lines[0], "retry_after_ms"), 0);
  EXPECT_EQ(region_.status().requests_rejected[static_cast<size_t>(BusyReason::kNoGroup)], 1);
}

}  // namespace
}  // namespace shoal::core
