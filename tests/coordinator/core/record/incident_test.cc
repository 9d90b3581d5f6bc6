// Causes of what was not served, and the report of an incident, of hand-made records.

#include "coordinator/core/record/incident.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/guard/breaker.h"
#include "coordinator/core/guard/guard_metrics.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Numbers records and gives them times, as a recorder does.
class Tape {
 public:
  void Note(int64_t ms, Record record) {
    record.number = page_.records.size() + 1;
    record.time = ms * kMillisecondNs;
    record.unix_ms = ms;
    page_.records.push_back(std::move(record));
    page_.now_unix_ms = ms;
    page_.oldest_unix_ms = page_.records.front().unix_ms;
  }
  void Reject(int64_t ms, BusyReason reason, const std::string& tenant = "") {
    Note(ms, {.kind = RecordKind::kRejected,
              .tenant = tenant,
              .service_class = ServiceClass::kSheddable,
              .reason = reason});
  }
  const RecordPage& page() const { return page_; }
  RecordPage& page() { return page_; }

 private:
  RecordPage page_;
};

Cause LastCause(const std::vector<Record>& records) {
  CauseFinder finder;
  std::optional<CauseFound> found;
  for (const Record& record : records) found = finder.Next(record);
  EXPECT_TRUE(found && !found->because.empty());
  return found ? found->cause : Cause::kUnknown;
}

Record Rejected(BusyReason reason, int64_t ms = 0) {
  return {.time = ms * kMillisecondNs, .kind = RecordKind::kRejected, .reason = reason};
}

TEST(CauseFinder, TellsTooMuchLoadFromTooFewGroups) {
  const Record lost{.kind = RecordKind::kGroupLost, .group = 1};
  const Record back{.time = kSecondNs, .kind = RecordKind::kGroupReady, .group = 1};
  EXPECT_EQ(LastCause({Rejected(BusyReason::kQueueFull)}), Cause::kPool);
  EXPECT_EQ(LastCause({Rejected(BusyReason::kDeadlineUnreachable)}), Cause::kCompute);
  EXPECT_EQ(LastCause({lost, Rejected(BusyReason::kQueueFull)}), Cause::kLoss);
  EXPECT_EQ(LastCause({lost, Rejected(BusyReason::kDeadlineUnreachable)}), Cause::kLoss);
  EXPECT_EQ(LastCause({lost, Rejected(BusyReason::kQuotaExceeded)}), Cause::kOwnQuota);
  EXPECT_EQ(LastCause({lost, back, Rejected(BusyReason::kQueueFull, 1'500)}), Cause::kLoss);
  EXPECT_EQ(LastCause({lost, back, Rejected(BusyReason::kQueueFull, 9'000)}), Cause::kPool);
}

TEST(CauseFinder, TellsGroupsThatWereDrainedFromThoseThatWereLost) {
  const Record drained{.kind = RecordKind::kDrained, .group = 1};
  const Record lost{.kind = RecordKind::kGroupLost, .group = 2};
  const Record back{.kind = RecordKind::kGroupReady, .group = 1};
  EXPECT_EQ(LastCause({Rejected(BusyReason::kNoGroup)}), Cause::kLoss);
  EXPECT_EQ(LastCause({drained, Rejected(BusyReason::kNoGroup)}), Cause::kStopping);
  EXPECT_EQ(LastCause({drained, lost, Rejected(BusyReason::kNoGroup)}), Cause::kLoss);
  EXPECT_EQ(LastCause({drained, back, Rejected(BusyReason::kGroupLost)}), Cause::kLoss);
}

TEST(CauseFinder, TakesABreakersCauseFromWhatItMeasures) {
  const std::map<std::string, Cause> causes = {
      {"gpu_utilization", Cause::kCompute}, {"cpu_utilization", Cause::kCompute},
      {"queue_wait_ms", Cause::kCompute},   {"kv_used", Cause::kPool},
      {"queue_length", Cause::kPool},       {"error_rate", Cause::kLoss}};
  EXPECT_EQ(LastCause({Rejected(BusyReason::kBreakerOpen)}), Cause::kUnknown);
  // Another breaker's opening says nothing of it.
  const auto opened = [](const std::string& metric) {
    return Record{.kind = RecordKind::kBreakerOpened,
                  .detail = "rule",
                  .figures = {{metric, 50, "the region's readings"}}};
  };
  const auto refused_by = [](const std::string& metric, int64_t at_ms = 0) {
    Record record = Rejected(BusyReason::kBreakerOpen, at_ms);
    record.figures = {{"retry_after_ms", 1, "what it was told"},
                      LimitOf({.metric = metric, .threshold = 90, .line = 3})};
    return record;
  };
  for (const std::string& metric : MetricNames()) {
    EXPECT_EQ(LastCause({opened("error_rate"), refused_by(metric)}), causes.at(metric)) << metric;
  }
  // What piled up because a group was lost opened it, and it is still open when that one is back.
  const Record lost{.kind = RecordKind::kGroupLost, .group = 1};
  const Record back{.kind = RecordKind::kGroupReady, .group = 1};
  const Record later = refused_by("queue_length", 60'000);
  EXPECT_EQ(LastCause({lost, opened("queue_length"), back, later}), Cause::kLoss);
  EXPECT_EQ(LastCause({lost, back, opened("queue_length"), later}), Cause::kPool);
}

TEST(CauseFinder, HasNoneForWhatWasServed) {
  CauseFinder finder;
  for (const RecordKind kind : {RecordKind::kAdmitted, RecordKind::kFinished, RecordKind::kParked,
                                RecordKind::kCancelled, RecordKind::kGroupLost}) {
    EXPECT_FALSE(finder.Next({.kind = kind, .group = 1}));
  }
}

// Busy events of three causes, mixed 72 : 15 : 13 and overlapping in time: of each it is known why
// it came about, and most reasons come of two causes.
class Mix {
 public:
  explicit Mix(uint64_t seed) : random_(seed) {}

  void Run(int events) {
    int64_t ms = 0;
    for (int i = 0; i < events; ++i) {
      ms += 20 + Below(60);
      const int64_t draw = Below(100);
      const Cause cause = draw < 72 ? Cause::kPool : draw < 87 ? Cause::kCompute : Cause::kLoss;
      if (cause == Cause::kLoss) {
        Lose(ms);
      } else {
        One(ms, cause);
      }
    }
  }

  // How often each cause was found for each that it was.
  std::map<std::pair<Cause, Cause>, int> Confusion() const {
    std::map<std::pair<Cause, Cause>, int> confusion;
    CauseFinder finder;
    for (const Record& record : tape_.page().records) {
      const auto found = finder.Next(record);
      if (found) ++confusion[{truth_.at(record.number), found->cause}];
    }
    return confusion;
  }
  const Tape& tape() const { return tape_; }

 private:
  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
  }

  void One(int64_t ms, Cause cause) {
    static constexpr std::array kPool = {BusyReason::kQueueFull, BusyReason::kKvFull};
    static constexpr std::array kCompute = {BusyReason::kDeadlineUnreachable,
                                            BusyReason::kDeadlineExceeded};
    const auto pick = static_cast<size_t>(Below(2));
    Busy(ms, cause, cause == Cause::kPool ? kPool.at(pick) : kCompute.at(pick));
  }

  // A group goes, one request hears of it in one of the ways there are, and it is back; now and
  // then something else is refused meanwhile, or just after.
  void Lose(int64_t& ms) {
    static constexpr std::array kWays = {BusyReason::kGroupLost, BusyReason::kNoGroup,
                                         BusyReason::kQueueFull, BusyReason::kDeadlineUnreachable};
    tape_.Note(ms, {.kind = RecordKind::kGroupLost, .group = 1, .detail = "rank_died: killed"});
    Busy(ms + 1, Cause::kLoss, kWays.at(static_cast<size_t>(Below(4))));
    if (Below(10) == 0) One(ms + 2, Cause::kPool);
    ms += 500;
    tape_.Note(ms, {.kind = RecordKind::kGroupReady, .group = 1});
    ms += 2'000;
  }

  void Busy(int64_t ms, Cause cause, BusyReason reason) {
    tape_.Reject(ms, reason);
    truth_[tape_.page().records.size()] = cause;
  }

  std::mt19937_64 random_;
  Tape tape_;
  std::map<uint64_t, Cause> truth_;
};

TEST(CauseFinder, IsRightInNineteenOfTwentyOfAMixOfCauses) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Mix mix(seed);
    mix.Run(2'000);
    int all = 0;
    int right = 0;
    std::map<Cause, std::pair<int, int>> by_cause;
    for (const auto& [pair, count] : mix.Confusion()) {
      auto& [of_cause, found] = by_cause[pair.first];
      all += count;
      of_cause += count;
      if (pair.first != pair.second) continue;
      right += count;
      found += count;
    }
    EXPECT_GE(right, 0.95 * all) << "seed " << seed;
    EXPECT_THAT(by_cause, SizeIs(3));
    for (const auto& [cause, counts] : by_cause) {
      EXPECT_GE(counts.second, 0.95 * counts.first) << ToString(cause) << ", seed " << seed;
    }
    EXPECT_LT(right, all) << "the mix has nothing that is hard to tell, seed " << seed;
  }
}

TEST(MakeIncidentReport, CountsByReasonClassAndTenantAndSaysWhereFrom) {
  Tape tape;
  tape.Reject(10, BusyReason::kQuotaExceeded, "acme");
  tape.Note(11, {.kind = RecordKind::kAdmitted});
  tape.Reject(12, BusyReason::kQueueFull, "other");
  tape.Reject(13, BusyReason::kQuotaExceeded, "acme");
  const IncidentReport report = MakeIncidentReport(tape.page(), 0);
  EXPECT_TRUE(report.complete);
  ASSERT_THAT(report.by_reason, SizeIs(2));
  EXPECT_EQ(report.by_reason[0].name, "quota_exceeded");
  EXPECT_EQ(report.by_reason[0].value, 2);
  EXPECT_EQ(report.by_reason[0].source, "records 1 to 4");
  EXPECT_EQ(report.by_reason[1].source, "record 3");
  EXPECT_EQ(report.by_tenant[0].name, "acme");
  EXPECT_EQ(report.by_class[0].value, 3);
  ASSERT_THAT(report.causes, SizeIs(2));
  EXPECT_EQ(report.causes[0].cause, Cause::kOwnQuota);
  EXPECT_DOUBLE_EQ(report.causes[0].share, 2.0 / 3);
  EXPECT_THAT(report.advice,
              ElementsAre(HasSubstr("--tenants-file"), HasSubstr("--queue-requests-max")));
}

TEST(MakeIncidentReport, TellsWhatHappenedToGroupsBreakersRungsAndPolicies) {
  Tape tape;
  tape.Note(1, {.kind = RecordKind::kGroupLost, .group = 1, .detail = "silent: no heartbeat"});
  tape.Note(2, {.kind = RecordKind::kEjected, .group = 2, .detail = "5 errors"});
  tape.Note(3, {.kind = RecordKind::kBreakerOpened, .detail = "rule"});
  tape.Note(4, {.kind = RecordKind::kRungChanged, .figures = {{"to", 1, "the ladder"}}});
  tape.Note(5, {.kind = RecordKind::kPolicyRefused, .detail = "tenants.yaml:4"});
  tape.Note(6, {.kind = RecordKind::kAdmitted});
  const IncidentReport report = MakeIncidentReport(tape.page(), 0);
  ASSERT_THAT(report.time_line, SizeIs(5));
  EXPECT_EQ(report.time_line[0].what, "group_lost, group 1: silent: no heartbeat");
  EXPECT_EQ(report.time_line[4].record, 5U);
  EXPECT_THAT(report.advice, Contains(HasSubstr("--heartbeats-missed-max")));
  EXPECT_THAT(report.advice, Contains(HasSubstr("silent 1 group lost (record 1): ")));
}

// What the ladder answered was served; what it was refused before is told apart, with its source.
TEST(MakeIncidentReport, CountsADegradedAnswerAsServed) {
  const auto of = [](RecordKind kind, const std::string& request, const std::string& tenant = "") {
    return Record{
        .kind = kind, .request = request, .tenant = tenant, .reason = BusyReason::kQueueFull};
  };
  Tape tape;
  tape.Note(1, of(RecordKind::kRejected, "a"));
  tape.Note(2, of(RecordKind::kRejected, "a"));
  tape.Note(3, of(RecordKind::kRejected, "a", "other"));
  tape.Note(4, of(RecordKind::kFailed, "b"));
  tape.Note(5, of(RecordKind::kDegraded, "a"));
  // A rung's answer may have ended before it is noted that it was one.
  Record finished = of(RecordKind::kFinished, "b");
  finished.stream = {12, 1};
  tape.Note(5, finished);
  Record degraded = of(RecordKind::kDegraded, "b");
  degraded.stream = {10, 1};
  degraded.figures = {{"rung", 2, "the ladder"}};
  tape.Note(6, degraded);
  tape.Note(7, of(RecordKind::kRejected, "c"));
  tape.Note(8, of(RecordKind::kFinished, "c"));
  tape.Note(9, of(RecordKind::kDegraded, "c"));
  tape.Note(10, of(RecordKind::kRejected, ""));
  const IncidentReport report = MakeIncidentReport(tape.page(), 0);
  ASSERT_THAT(report.by_rung, SizeIs(1));
  EXPECT_EQ(report.by_rung[0].name, "queue_full");
  EXPECT_EQ(report.by_rung[0].value, 3);
  EXPECT_EQ(report.by_rung[0].source, "records 1 to 4");
  ASSERT_THAT(report.by_reason, SizeIs(1));
  EXPECT_EQ(report.by_reason[0].value, 3);
  ASSERT_THAT(report.causes, SizeIs(1));
  EXPECT_EQ(report.causes[0].count, 3);
  EXPECT_THAT(report.advice, ElementsAre(HasSubstr("queue_full 3 times")));
}

TEST(MakeIncidentReport, NamesTheLongestWaits) {
  Tape tape;
  for (int i = 0; i < 2'000; ++i) {
    tape.Note(i, {.kind = RecordKind::kFirstToken,
                  .request = Str("r", i),
                  .figures = {{"waited_ms", static_cast<double>(i * 7 % 2'000), "the clock"}}});
  }
  const IncidentReport report = MakeIncidentReport(tape.page(), 0);
  ASSERT_THAT(report.worst_waits, SizeIs(IncidentReport::kWaitsMax));
  EXPECT_EQ(report.worst_waits[0].value, 1'999);
  EXPECT_EQ(report.worst_waits[4].value, 1'995);
  EXPECT_THAT(report.worst_waits[0].source, HasSubstr("the clock"));
}

TEST(MakeIncidentReport, SaysThatItDoesNotKnowAllOfTheTime) {
  Tape tape;
  tape.Reject(50'000, BusyReason::kQueueFull);
  tape.page().forgotten = 3;
  EXPECT_FALSE(MakeIncidentReport(tape.page(), 10'000).complete);
  EXPECT_EQ(MakeIncidentReport(tape.page(), 10'000).from_unix_ms, 50'000);
  tape.page().oldest_unix_ms = 1;
  EXPECT_TRUE(MakeIncidentReport(tape.page(), 10'000).complete);
  EXPECT_EQ(MakeIncidentReport(tape.page(), 10'000).from_unix_ms, 40'000);
}

TEST(MakeIncidentReport, KeepsTheLatestOfALongTimeLine) {
  Tape tape;
  for (int i = 0; i < 250; ++i) tape.Note(i, {.kind = RecordKind::kGroupReady, .group = 1});
  const IncidentReport report = MakeIncidentReport(tape.page(), 0);
  ASSERT_THAT(report.time_line, SizeIs(IncidentReport::kTimeLineMax));
  EXPECT_EQ(report.time_line_left_out, 50);
  EXPECT_EQ(report.time_line.back().unix_ms, 249);
}

TEST(MakeIncidentReport, IsEmptyOfNothing) {
  const IncidentReport report = MakeIncidentReport({}, 1'000);
  EXPECT_THAT(report.time_line, IsEmpty());
  EXPECT_THAT(report.causes, IsEmpty());
  EXPECT_THAT(report.advice, IsEmpty());
}

}  // namespace
}  // namespace shoal::core
