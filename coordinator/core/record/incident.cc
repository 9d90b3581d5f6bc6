#include "coordinator/core/record/incident.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

// How often something was seen, and by which records.
struct Seen {
  int64_t count = 0;
  uint64_t first = 0;
  uint64_t last = 0;

  void Add(const Record& record) {
    if (count++ == 0) first = record.number;
    last = record.number;
  }
  std::string Source() const {
    return first == last ? Str("record ", first) : Str("records ", first, " to ", last);
  }
};

using SeenByName = std::map<std::string, Seen>;

struct CauseSeen {
  Seen seen{};
  std::map<std::string, int64_t> because{};
};

// All that is counted in one pass.
struct Count {
  SeenByName outcomes{};
  SeenByName rungs{};  // Reasons of what a rung of the ladder answered.
  SeenByName reasons{};
  SeenByName classes{};
  SeenByName tenants{};
  SeenByName told{};    // Reasons of all that was not served, also later on.
  SeenByName losses{};  // By their causes.
  std::array<CauseSeen, kCauses> causes{};
};

std::vector<Tally> Sorted(const SeenByName& seen, size_t at_most = SIZE_MAX) {
  std::vector<Tally> tallies;
  for (const auto& [name, one] : seen) {
    tallies.push_back({name, static_cast<double>(one.count), one.Source()});
  }
  std::ranges::stable_sort(tallies, std::ranges::greater{}, &Tally::value);
  tallies.resize(std::min(tallies.size(), at_most));
  return tallies;
}

bool IsOfRegion(RecordKind kind) { return kind >= RecordKind::kGroupReady; }

// The cause comes first in a loss's record.
std::string LossCauseOf(const Record& record) {
  return record.detail.substr(0, record.detail.find(':'));
}

void AddToTimeLine(const Record& record, IncidentReport& report) {
  std::string what(ToString(record.kind));
  if (record.group) what += Str(", group ", *record.group);
  if (!record.detail.empty()) what += Str(": ", record.detail);
  report.time_line.push_back(
      {record.unix_ms, record.kind, std::move(what), record.figures, record.number});
}

void AddWait(const Record& record, IncidentReport& report) {
  for (const RecordFigure& figure : record.figures) {
    if (figure.name != "waited_ms") continue;
    const std::string name = record.request.empty() ? Str(record.stream) : record.request;
    report.worst_waits.push_back(
        {name, figure.value, Str("record ", record.number, ", ", figure.source)});
  }
  // Only the worst are kept, now and then, so that this takes little room.
  constexpr size_t kKept = IncidentReport::kWaitsMax;
  if (report.worst_waits.size() < 100 * kKept) return;
  std::ranges::stable_sort(report.worst_waits, std::ranges::greater{}, &Tally::value);
  report.worst_waits.resize(kKept);
}

// Upper halves of the streams by which rungs answered: the answer's own and the rung's number.
std::set<uint64_t> FindRungStreams(std::span<const Record> records) {
  std::set<uint64_t> streams;
  for (const Record& record : records) {
    if (record.kind != RecordKind::kDegraded) continue;
    for (const RecordFigure& figure : record.figures) {
      if (figure.name != "rung") continue;
      streams.insert(record.stream.high + static_cast<uint64_t>(figure.value));
    }
  }
  return streams;
}

// The numbers of those records that say that a request was not served, although a rung of the
// ladder has answered it: what it was told before that nobody heard but the ladder.
std::set<uint64_t> FindMadeGood(std::span<const Record> records) {
  const std::set<uint64_t> rung_streams = FindRungStreams(records);
  std::set<uint64_t> made_good;
  std::map<std::pair<std::string, std::string>, std::vector<uint64_t>> untold;
  for (const Record& record : records) {
    if (record.request.empty()) continue;
    const std::pair name(record.tenant, record.request);
    switch (record.kind) {
      case RecordKind::kRejected:
      case RecordKind::kFailed:
      case RecordKind::kExpired:
        untold[name].push_back(record.number);
        break;
      case RecordKind::kDegraded:
        made_good.insert(untold[name].begin(), untold[name].end());
        untold.erase(name);
        break;
      case RecordKind::kFinished:  // The next one of that name is another request.
        if (!rung_streams.contains(record.stream.high)) untold.erase(name);
        break;
      default:
        break;
    }
  }
  return made_good;
}

void CountRecord(const Record& record, bool made_good, CauseFinder& finder, Count& count) {
  count.outcomes[std::string(ToString(record.kind))].Add(record);
  if (record.kind == RecordKind::kGroupLost) count.losses[LossCauseOf(record)].Add(record);
  const std::string reason(record.reason ? ToString(*record.reason) : "unknown");
  if (made_good) count.rungs[reason].Add(record);
  if (record.kind == RecordKind::kRejected && !made_good) {
    count.reasons[reason].Add(record);
    count.classes[std::string(record.service_class ? ToString(*record.service_class) : "none")].Add(
        record);
    count.tenants[record.tenant.empty() ? "default" : record.tenant].Add(record);
  }
  const auto found = finder.Next(record);
  if (!found || made_good) return;
  if (record.reason) count.told[std::string(ToString(*record.reason))].Add(record);
  CauseSeen& cause = count.causes.at(static_cast<size_t>(found->cause));
  cause.seen.Add(record);
  ++cause.because[found->because];
}

std::vector<CauseShare> SharesOf(const Count& count) {
  int64_t all = 0;
  for (const CauseSeen& one : count.causes) all += one.seen.count;
  all -= count.causes[static_cast<size_t>(Cause::kRequest)].seen.count;
  std::vector<CauseShare> shares;
  for (int i = 0; i < kCauses; ++i) {
    const auto cause = static_cast<Cause>(i);
    const CauseSeen& one = count.causes.at(static_cast<size_t>(i));
    if (one.seen.count == 0) continue;
    const auto most = std::ranges::max_element(
        one.because, {}, [](const auto& evidence) { return evidence.second; });
    const double share = cause == Cause::kRequest || all == 0
                             ? 0
                             : static_cast<double>(one.seen.count) / static_cast<double>(all);
    shares.push_back({cause, one.seen.count, share, most->first, one.seen.Source()});
  }
  std::ranges::stable_sort(shares, std::ranges::greater{}, &CauseShare::count);
  return shares;
}

// What to turn, for whom it may concern: by what requests were told, and by why groups were lost.
struct Advice {
  std::string_view about;
  std::string_view what;
};

constexpr Advice kReasonAdvice[] = {
    {"quota_exceeded",
     "raise tokens_per_second, burst_tokens or requests_in_flight_max of that tenant in "
     "--tenants-file, or have its clients honour Retry-After"},
    {"queue_full",
     "raise --queue-requests-max if waiting longer is better than coming back, else start more "
     "groups (--groups)"},
    {"kv_full", "raise --kv-cache-tokens or --kv-cache-bytes-max, or start more groups (--groups)"},
    {"deadline_unreachable",
     "start more groups (--groups), or let a smaller model answer (--ladder)"},
    {"deadline_exceeded", "start more groups (--groups), or let a smaller model answer (--ladder)"},
    {"breaker_open", "look at the rule in --breaker-rules: its threshold, its duration"},
    {"no_group", "run at least two groups (--groups), so that one may be lost"},
    {"group_lost",
     "raise --resume-timeout-ms above what a group's start takes, or run more groups "
     "(--groups)"},
    {"request_suspect", "look for the prompt that took groups along: their logs are of that time"},
};

constexpr Advice kLossAdvice[] = {
    {"rank_died", "look at the ranks' logs: a process ended, or a connection broke"},
    {"silent", "raise --heartbeats-missed-max if the ranks were starved and not stopped"},
    {"stuck", "raise --progress-timeout-ms if a step may take that long"},
    {"wrong_answer", "check that machine's memory and processor: its ranks computed other bits"},
    {"out_of_memory", "lower --kv-cache-bytes-max: the machine had no memory left"},
    {"protocol", "run coordinator and workers of the same release"},
    {"never_ready", "raise --join-timeout-ms if loading the model takes that long"},
};

// `one`, `more`: what was counted.
void Advise(std::span<const Advice> table, const SeenByName& seen, std::string_view one,
            std::string_view more, IncidentReport& report) {
  for (const Tally& tally : Sorted(seen)) {
    const auto advice = std::ranges::find(table, tally.name, &Advice::about);
    if (advice == table.end()) continue;
    report.advice.push_back(Str(tally.name, " ", static_cast<int64_t>(tally.value), " ",
                                tally.value == 1 ? one : more, " (", tally.source,
                                "): ", advice->what));
  }
}

void LimitTimeLine(IncidentReport& report) {
  constexpr auto kMax = static_cast<std::ptrdiff_t>(IncidentReport::kTimeLineMax);
  const auto more = std::ssize(report.time_line) - kMax;
  if (more <= 0) return;
  report.time_line_left_out = more;
  report.time_line.erase(report.time_line.begin(), report.time_line.begin() + more);
}

}  // namespace

IncidentReport MakeIncidentReport(const RecordPage& page, int64_t since_ms) {
  IncidentReport report;
  report.until_unix_ms = page.now_unix_ms;
  const int64_t asked = since_ms == 0 ? page.oldest_unix_ms : page.now_unix_ms - since_ms;
  report.complete = page.forgotten == 0 || (since_ms != 0 && asked >= page.oldest_unix_ms);
  report.from_unix_ms = report.complete ? asked : std::max(asked, page.oldest_unix_ms);
  report.forgotten = page.forgotten;
  Count count;
  CauseFinder finder;
  const std::set<uint64_t> made_good = FindMadeGood(page.records);
  for (const Record& record : page.records) {
    CountRecord(record, made_good.contains(record.number), finder, count);
    if (IsOfRegion(record.kind)) AddToTimeLine(record, report);
    if (record.kind == RecordKind::kFirstToken) AddWait(record, report);
  }
  LimitTimeLine(report);
  report.outcomes = Sorted(count.outcomes);
  report.by_rung = Sorted(count.rungs);
  report.by_reason = Sorted(count.reasons);
  report.by_class = Sorted(count.classes);
  report.by_tenant = Sorted(count.tenants, IncidentReport::kTenantsMax);
  std::ranges::stable_sort(report.worst_waits, std::ranges::greater{}, &Tally::value);
  report.worst_waits.resize(std::min(report.worst_waits.size(), IncidentReport::kWaitsMax));
  report.causes = SharesOf(count);
  Advise(kReasonAdvice, count.told, "time", "times", report);
  Advise(kLossAdvice, count.losses, "group lost", "groups lost", report);
  return report;
}

}  // namespace shoal::core
