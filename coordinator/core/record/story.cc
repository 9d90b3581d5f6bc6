#include "coordinator/core/record/story.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr std::array<std::string_view, 6> kOutcomes = {"under_way", "finished", "refused",
                                                       "failed",    "expired",  "cancelled"};
constexpr std::string_view kFromRecords = "the times of its records";

// A story while it is told: what the next line refers to.
struct Teller {
  Story story{};
  TimeNs began = 0;
  TimeNs waits_since = 0;  // For a group, since it was admitted or lost one.
  bool parked = false;     // Since the last time that it was placed.
};

int64_t MsBetween(TimeNs from, TimeNs to) { return (to - from) / kMillisecondNs; }

std::string GroupName(const Record& record) {
  return record.group ? Str("group ", *record.group) : std::string("a group");
}

std::string WithDetail(std::string text, const Record& record) {
  return record.detail.empty() ? text : Str(text, ": ", record.detail);
}

std::string ReasonText(const Record& record, std::string_view verb) {
  return WithDetail(record.reason ? Str(verb, ", ", ToString(*record.reason)) : std::string(verb),
                    record);
}

// Adds how long it has waited, and says what for.
std::string TellPlace(Teller& teller, const Record& record, std::vector<RecordFigure>& figures) {
  const auto waited_ms = static_cast<double>(MsBetween(teller.waits_since, record.time));
  const bool goes_on = std::exchange(teller.parked, false);
  figures.insert(figures.begin(), {goes_on ? "without_group_ms" : "queued_ms", waited_ms,
                                   std::string(kFromRecords)});
  return WithDetail(Str(goes_on ? "resumed: goes on with " : "placed with ", GroupName(record)),
                    record);
}

std::string TellLoss(Teller& teller, const Record& record) {
  teller.parked = true;
  teller.waits_since = record.time;
  // Of a group that goes on, but is to be empty.
  const bool moves = record.reason == BusyReason::kDraining;
  return WithDetail(moves ? Str("taken from ", GroupName(record), ", which is emptied")
                          : Str("parked because ", GroupName(record), " was lost"),
                    record);
}

void End(Story& story, Outcome outcome, const Record& record) {
  story.outcome = outcome;
  story.reason = record.reason;
}

std::string TellEnd(Story& story, const Record& record) {
  switch (record.kind) {
    case RecordKind::kRejected:
      End(story, Outcome::kRefused, record);
      return ReasonText(record, "refused before any work");
    case RecordKind::kExpired:
      End(story, Outcome::kExpired, record);
      return ReasonText(record, "ended by its deadline");
    case RecordKind::kFailed:
      End(story, Outcome::kFailed, record);
      return ReasonText(record, "failed");
    case RecordKind::kCancelled:
      End(story, Outcome::kCancelled, record);
      return WithDetail("cancelled: its client hung up, or stayed away", record);
    default:
      End(story, Outcome::kFinished, record);
      return WithDetail(Str("finished by ", GroupName(record)), record);
  }
}

std::string Tell(Teller& teller, const Record& record, std::vector<RecordFigure>& figures) {
  switch (record.kind) {
    case RecordKind::kAdmitted:
      return WithDetail("admitted", record);
    case RecordKind::kJoined:
      return WithDetail("joined another request", record);
    case RecordKind::kPlaced:
      return TellPlace(teller, record, figures);
    case RecordKind::kFirstToken:
      return WithDetail(Str("first token, from ", GroupName(record)), record);
    case RecordKind::kPreempted:
      return WithDetail(Str("preempted by ", GroupName(record),
                            ": its place went to another one, and it is computed again"),
                        record);
    case RecordKind::kParked:
      return TellLoss(teller, record);
    case RecordKind::kDegraded:
      teller.story.degraded = true;
      return WithDetail("answered by a lower rung of the ladder", record);
    case RecordKind::kRejected:
    case RecordKind::kExpired:
    case RecordKind::kFailed:
    case RecordKind::kCancelled:
    case RecordKind::kFinished:
      return TellEnd(teller.story, record);
    default:
      return WithDetail(std::string(ToString(record.kind)), record);
  }
}

// What whoever asked can do about it.
std::string AdviceFor(BusyReason reason) {
  switch (reason) {
    case BusyReason::kQuotaExceeded:
      return "spend less, or ask the operator for a higher tokens_per_second or burst_tokens "
             "(--tenants-file): other clients' load is not the reason";
    case BusyReason::kQueueFull:
    case BusyReason::kKvFull:
      return "come back then, with jitter; ask for fewer tokens, so that it fits earlier";
    case BusyReason::kDeadlineUnreachable:
      return "give it a later X-Shoal-Deadline-Ms than the predicted wait, or ask for fewer tokens";
    case BusyReason::kDeadlineExceeded:
      return "give it a later X-Shoal-Deadline-Ms, or a smaller max_tokens";
    case BusyReason::kBreakerOpen:
      return "come back then; a higher class (X-Shoal-Class) may be served meanwhile";
    case BusyReason::kNoGroup:
    case BusyReason::kDraining:
      return "come back then: no group, or no coordinator, takes requests just now";
    case BusyReason::kGroupLost:
      return "ask again: it was not its fault; a resumable answer goes on where it was";
    case BusyReason::kRequestSuspect:
      return "do not send this prompt again for a while: groups were lost that had it";
    case BusyReason::kTooLarge:
      return "ask for fewer tokens, or shorten the prompt";
    case BusyReason::kCursorInvalid:
    case BusyReason::kCursorMismatch:
    case BusyReason::kCursorExpired:
      return "send the request anew, without the cursor";
    case BusyReason::kStreamTaken:
      return "read it where it goes on: another client came back for it";
    case BusyReason::kRefused:
    case BusyReason::kInvalid:
      return "mend the request: the message says what is wrong with it";
  }
  return "";
}

void Advise(Story& story) {
  // A rung without a group has answered at once.
  const bool has_stream = std::ranges::any_of(
      story.lines, [](const StoryLine& line) { return line.kind == RecordKind::kAdmitted; });
  if (story.degraded && !has_stream && story.outcome == Outcome::kUnderWay) {
    story.outcome = Outcome::kFinished;
  }
  switch (story.outcome) {
    case Outcome::kRefused:
    case Outcome::kFailed:
    case Outcome::kExpired:
      break;
    case Outcome::kUnderWay:
      story.advice.emplace_back("wait: it has not ended");
      return;
    default:
      return;
  }
  for (const RecordFigure& figure : story.lines.back().figures) {
    if (figure.name == "retry_after_ms" && figure.value > 0) {
      story.advice.push_back(
          Str("retry after ", static_cast<int64_t>(figure.value), " ms (", figure.source, ")"));
    }
  }
  if (story.reason) story.advice.push_back(AdviceFor(*story.reason));
  if (story.outcome == Outcome::kExpired && !story.reason) {
    story.advice.push_back(AdviceFor(BusyReason::kDeadlineExceeded));
  }
}

void Add(Teller& teller, const Record& record) {
  Story& story = teller.story;
  if (story.lines.empty()) {
    story.request = record.request;
    story.stream = record.stream;
    story.began_unix_ms = record.unix_ms;
    teller.began = record.time;
    teller.waits_since = record.time;
  }
  if (story.tenant.empty()) story.tenant = record.tenant;
  if (!story.service_class) story.service_class = record.service_class;
  StoryLine line{.at_ms = MsBetween(teller.began, record.time), .kind = record.kind};
  line.figures = record.figures;
  line.what = Tell(teller, record, line.figures);
  story.lines.push_back(std::move(line));
}

bool IsOfRequest(RecordKind kind) { return kind <= RecordKind::kCancelled; }

}  // namespace

std::string_view ToString(Outcome outcome) { return kOutcomes.at(static_cast<size_t>(outcome)); }

std::vector<Story> TellStories(std::span<const Record> records) {
  std::vector<Teller> tellers;
  std::map<StreamId, size_t> by_stream;
  for (const Record& record : records) {
    if (!IsOfRequest(record.kind)) continue;
    size_t place = tellers.size();
    if (record.stream != StreamId{}) {
      place = by_stream.try_emplace(record.stream, place).first->second;
    }
    if (place == tellers.size()) tellers.emplace_back();
    Add(tellers[place], record);
  }
  std::vector<Story> stories;
  for (Teller& teller : tellers) {
    Advise(teller.story);
    stories.push_back(std::move(teller.story));
  }
  return stories;
}

}  // namespace shoal::core
