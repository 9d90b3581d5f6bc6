// What is remembered, for how long, and how it is found.

#include "coordinator/core/record/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/coordinator/core/support.h"
#include "transport/base/check.h"
#include "transport/base/utf8.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kEpochMs = 1'700'000'000'000;

std::vector<uint64_t> NumbersIn(const RecordPage& page) {
  std::vector<uint64_t> numbers;
  for (const Record& record : page.records) numbers.push_back(record.number);
  return numbers;
}

class FlightRecorderTest : public ::testing::Test {
 protected:
  void Note(const std::string& request, StreamId stream = {}, const std::string& tenant = "") {
    recorder_.Note(
        {.kind = RecordKind::kAdmitted, .stream = stream, .request = request, .tenant = tenant});
  }

  ManualClock clock_;
  FlightRecorder recorder_{clock_, kEpochMs};
};

TEST_F(FlightRecorderTest, FindsTheRecordsOfARequestByItsNameAndByItsStream) {
  Note("a", {1, 2});
  Note("b", {3, 4});
  recorder_.Note({.kind = RecordKind::kFinished, .stream = {1, 2}, .request = "a"});
  EXPECT_THAT(NumbersIn(recorder_.Find({.request = "a"})), ElementsAre(1, 3));
  EXPECT_THAT(NumbersIn(recorder_.Find({.request = Str(StreamId{3, 4})})), ElementsAre(2));
  EXPECT_THAT(recorder_.Find({.request = "c"}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({.request = std::string(32, 'x')}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({}).records, SizeIs(3));
}

// Choices of one answer differ in the last digits; a rung's stream is another one.
TEST_F(FlightRecorderTest, FindsAllOfAnAnswerByTheIdThatItsClientKnows) {
  const std::string id = "0123456789abcdef01234567";
  recorder_.Note({.kind = RecordKind::kRejected, .request = "a", .reason = BusyReason::kQueueFull});
  Note("a", {0x0123456789abcdef, 0x0123456700000001});
  Note("a", {0x0123456789abcdef, 0x01234567ffffffff});
  Note("a", {0x0123456789abcdf0, 0x0123456700000001});
  Note("b", {0x0123456789abcdef, 0x0123456800000000});
  Note("", {7, 0});
  EXPECT_THAT(NumbersIn(recorder_.Find({.request = "cmpl-" + id})), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(NumbersIn(recorder_.Find({.request = "chatcmpl-" + id})), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(NumbersIn(recorder_.Find({.request = "cmpl-000000000000000700000000"})),
              ElementsAre(6));
  EXPECT_THAT(recorder_.Find({.request = "other-" + id}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({.request = "cmpl-" + id + "0"}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({.request = "cmpl-" + std::string(24, 'x')}).records, IsEmpty());
}

TEST_F(FlightRecorderTest, FindsWhatIsNotOlderAndSaysHowFarItReaches) {
  clock_.Advance(5'000);
  Note("old");
  clock_.Advance(1'000);
  Note("new");
  const RecordPage page = recorder_.Find({.since_ms = 999});
  EXPECT_THAT(NumbersIn(page), ElementsAre(2));
  EXPECT_EQ(page.now_unix_ms - page.oldest_unix_ms, 1'000);
  EXPECT_EQ(page.records[0].unix_ms, page.now_unix_ms);
  EXPECT_THAT(recorder_.Find({.since_ms = INT64_MAX}).records, SizeIs(2));
}

TEST_F(FlightRecorderTest, AnswersInPages) {
  for (int i = 0; i < 5; ++i) Note("a");
  RecordQuery query{.request = "a", .records_max = 2};
  std::vector<uint64_t> numbers;
  for (bool more = true; more;) {
    const RecordPage page = recorder_.Find(query);
    ASSERT_THAT(page.records, ::testing::Not(IsEmpty()));
    for (const uint64_t number : NumbersIn(page)) numbers.push_back(number);
    query.after = numbers.back();
    more = page.more;
  }
  EXPECT_THAT(numbers, ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(FlightRecorderTest, ShowsATenantItsOwnAndWhatIsOfNobody) {
  Note("a", {}, "acme");
  Note("b", {}, "other");
  recorder_.Note({.kind = RecordKind::kGroupLost, .group = 1});
  EXPECT_THAT(NumbersIn(recorder_.Find({.tenant = "acme"})), ElementsAre(1, 3));
  EXPECT_THAT(recorder_.Find({.request = "b", .tenant = "acme"}).records, IsEmpty());
}

TEST_F(FlightRecorderTest, ShowsTheDefaultTenantNothingOfNamedOnesNorThemOfIt) {
  Note("a", {}, "acme");
  Note("mine");
  Note("");  // A request without a name.
  EXPECT_THAT(NumbersIn(recorder_.Find({.tenant = ""})), ElementsAre(2, 3));
  EXPECT_THAT(NumbersIn(recorder_.Find({.tenant = "acme"})), ElementsAre(1));
  EXPECT_THAT(NumbersIn(recorder_.Find({})), ElementsAre(1, 2, 3));
}

TEST_F(FlightRecorderTest, ShowsNoTenantWhatIsSaidOfPolicyFiles) {
  recorder_.Note({.kind = RecordKind::kPolicyRefused, .detail = "tenant a has that name too"});
  recorder_.Note({.kind = RecordKind::kPolicyLoaded, .detail = "2 tenants"});
  EXPECT_THAT(recorder_.Find({.tenant = "acme"}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({.tenant = ""}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({}).records, SizeIs(2));
}

TEST_F(FlightRecorderTest, ForgetsTheOldestBeyondItsNumberAndKeepsItsCounts) {
  for (size_t i = 0; i < FlightRecorder::kRecordsMax + 10; ++i) {
    recorder_.Note({.kind = RecordKind::kRejected,
                    .request = Str("r", i),
                    .reason = i % 4 == 0 ? BusyReason::kQuotaExceeded : BusyReason::kQueueFull});
  }
  EXPECT_EQ(recorder_.size(), FlightRecorder::kRecordsMax);
  EXPECT_EQ(recorder_.forgotten(), 10);
  EXPECT_THAT(recorder_.Find({.request = "r9"}).records, IsEmpty());
  EXPECT_THAT(recorder_.Find({.request = "r10"}).records, SizeIs(1));
  const RecordCounts& counts = recorder_.counts();
  EXPECT_EQ(counts.of(RecordKind::kRejected), FlightRecorder::kRecordsMax + 10);
  int64_t sum = 0;
  for (const int64_t count : counts.rejected) sum += count;
  EXPECT_EQ(sum, counts.of(RecordKind::kRejected));
  EXPECT_EQ(counts.rejected[static_cast<size_t>(BusyReason::kQuotaExceeded)],
            (FlightRecorder::kRecordsMax + 10 + 3) / 4);
}

TEST_F(FlightRecorderTest, ForgetsTheOldestBeyondItsBytes) {
  Record large{.kind = RecordKind::kRejected, .request = "large"};
  large.reason = BusyReason::kQueueFull;
  large.figures.assign(FlightRecorder::kFiguresMax,
                       {std::string(FlightRecorder::kNameBytesMax, 'n'), 1,
                        std::string(FlightRecorder::kNameBytesMax, 's')});
  for (int i = 0; i < 6'000; ++i) recorder_.Note(large);
  EXPECT_LE(recorder_.bytes(), FlightRecorder::kBytesMax);
  EXPECT_LT(recorder_.size(), 6'000U);
  EXPECT_GT(recorder_.size(), 1'000U);
  EXPECT_THAT(recorder_.Find({.request = "large", .records_max = 10'000}).records,
              SizeIs(recorder_.size()));
}

TEST_F(FlightRecorderTest, CutsWhatIsLongAtAWholeCharacter) {
  Record record{.kind = RecordKind::kFailed, .request = std::string(1'000, 'r')};
  for (int i = 0; i < 1'000; ++i) record.detail += "\xE2\x82\xAC";  // A euro sign.
  record.figures.resize(100);
  recorder_.Note(record);
  const RecordPage page = recorder_.Find({.request = record.request});
  ASSERT_THAT(page.records, SizeIs(1));
  const Record& kept = page.records[0];
  EXPECT_LE(kept.detail.size(), FlightRecorder::kDetailBytesMax);
  EXPECT_GT(kept.detail.size(), FlightRecorder::kDetailBytesMax - 4);
  EXPECT_TRUE(IsWellFormedUtf8(kept.detail));
  EXPECT_TRUE(kept.detail.ends_with("..."));
  EXPECT_THAT(kept.request, SizeIs(FlightRecorder::kNameBytesMax));
  EXPECT_THAT(kept.figures, SizeIs(FlightRecorder::kFiguresMax));
}

TEST(RejectionOf, HasTheFiguresThatTheClientWasTold) {
  StreamError error = MakeStreamError(BusyReason::kDeadlineUnreachable, "too late");
  error.predicted_wait_ms = 900;
  const Record record = RejectionOf({.name = "r", .deadline_ms = 200, .attempt = 2}, error);
  std::vector<std::string> names;
  for (const RecordFigure& figure : record.figures) {
    names.push_back(figure.name);
    EXPECT_FALSE(figure.source.empty());
  }
  EXPECT_THAT(names, ElementsAre("deadline_ms", "attempt", "predicted_wait_ms", "retry_after_ms"));
  EXPECT_EQ(record.reason, BusyReason::kDeadlineUnreachable);
}

}  // namespace
}  // namespace shoal::core
