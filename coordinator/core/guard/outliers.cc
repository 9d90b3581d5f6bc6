#include "coordinator/core/guard/outliers.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr int32_t kEjectionsMax = 10;  // Its time grows no more.
constexpr double kFirstShare = 0.1;    // Of a group that has just come back.
// How long a group must be slow, how old its pace may be, and that of its peers, who may be idle.
constexpr TimeNs kSlowNs = 3 * kSecondNs;
constexpr TimeNs kPaceNs = 10 * kSecondNs;
constexpr TimeNs kPeersPaceNs = 60 * kSecondNs;
constexpr size_t kPeersMin = 2;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

Outliers::Outliers(OutlierRules rules) : rules_(rules) {}

void Outliers::NoteSuccess(uint64_t group, const GroupMap& groups, TimeNs now) {
  const auto found = entries_.find(group);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  entry.errors_in_row = 0;
  ++entry.successes;
  if (entry.state != State::kTried) return;
  entry.state = State::kIn;
  entry.errors = entry.successes = 0;
  entry.window_since = entry.changed = now;
  entry.returned = now;
  entry.slow_since.reset();
  records_.push_back({.kind = RecordKind::kReturned,
                      .group = group,
                      .detail = "a request went well: it gets its share little by little",
                      .figures = {{"slow_start_ms", static_cast<double>(rules_.slow_start_ms),
                                   "the breaker rules"}}});
  Settle(groups);
}

void Outliers::NoteError(uint64_t group, const GroupMap& groups, TimeNs now) {
  Entry& entry = entries_.try_emplace(group, Entry{.window_since = now}).first->second;
  if (entry.state == State::kOut) return;
  if (now - entry.window_since >= rules_.interval_ms * kMillisecondNs) {
    entry.errors = entry.successes = 0;
    entry.window_since = now;
  }
  ++entry.errors_in_row;
  ++entry.errors;
  const bool in_row = entry.errors_in_row >= rules_.errors_max;
  const bool in_interval = entry.errors >= rules_.errors_max && entry.errors > entry.successes;
  if (entry.state == State::kIn && !in_row && !in_interval) return;
  Record record{.kind = RecordKind::kEjected, .group = group};
  record.detail = entry.state == State::kTried ? Str("it failed again when it was tried")
                  : in_row                     ? Str(entry.errors_in_row, " errors in a row")
                           : Str(entry.errors, " errors within ", rules_.interval_ms, " ms");
  record.figures = {{"errors", static_cast<double>(entry.errors), "what became of its requests"}};
  Eject(group, entry, std::move(record), now);
  Settle(groups);
}

void Outliers::Eject(uint64_t number, Entry& entry, Record record, TimeNs now) {
  entry.state = State::kOut;
  entry.ejections = std::min(entry.ejections + 1, kEjectionsMax);
  entry.changed = now;
  entry.out_until = now + entry.ejections * rules_.ejection_ms * kMillisecondNs;
  entry.returned.reset();
  entry.slow_since.reset();
  entry.errors_in_row = entry.errors = entry.successes = 0;
  record.group = number;
  record.figures.push_back({"ejection_ms",
                            static_cast<double>(entry.ejections * rules_.ejection_ms),
                            "the breaker rules"});
  records_.push_back(std::move(record));
}

void Outliers::Tick(const GroupMap& groups, TimeNs now) {
  for (auto& [number, entry] : entries_) TickEntry(entry, now);
  if (rules_.slow_factor > 0) TickSlow(groups, now);
  Settle(groups);
}

void Outliers::TickEntry(Entry& entry, TimeNs now) const {
  if (entry.state == State::kOut) {
    if (now >= entry.out_until) entry.state = State::kTried;
    return;
  }
  if (entry.state != State::kIn) return;
  if (entry.returned && now - *entry.returned >= rules_.slow_start_ms * kMillisecondNs) {
    entry.returned.reset();
  }
  if (entry.ejections > 0 && now - entry.changed >= rules_.ejection_ms * kMillisecondNs) {
    --entry.ejections;
    entry.changed = now;
  }
}

void Outliers::TickSlow(const GroupMap& groups, TimeNs now) {
  std::map<ModelKey, Count> counts = CountOut(groups);
  for (const auto& [number, group] : groups) {
    if (IsOut(number)) continue;
    const std::optional<double> slowness = Slowness(group, groups, now);
    const auto found = entries_.find(number);
    if (!slowness || *slowness < rules_.slow_factor) {
      if (found != entries_.end()) found->second.slow_since.reset();
      continue;
    }
    Entry& entry = entries_.try_emplace(number, Entry{.window_since = now}).first->second;
    if (!entry.slow_since) entry.slow_since = now;
    Count& count = counts.at(group.key);
    const double share = static_cast<double>(count.out + 1) / static_cast<double>(count.ready);
    // Being slow is better than being fewer than that.
    if (now - *entry.slow_since < kSlowNs || share > rules_.ejected_share_max) continue;
    ++count.out;
    Record record{.kind = RecordKind::kEjected};
    record.detail = Str("it is ", *slowness, " times slower than its peers");
    record.figures = {{"slowness", *slowness, "the groups' reports"},
                      {"step_us", group.load.pace()->step_us, Str("group ", number, "'s reports")}};
    Eject(number, entry, std::move(record), now);
    slow_.push_back(number);
  }
}

// Both by step and by row: long prompts make steps long and rows cheap, few sequences make steps
// short and rows dear; only a group that is slow is worse in both.
std::optional<double> Outliers::Slowness(const Group& group, const GroupMap& groups,
                                         TimeNs now) const {
  const std::optional<GroupPace>& own = group.load.pace();
  if (group.state != GroupState::kReady || group.sequences.empty() || !own ||
      now - own->time > kPaceNs) {
    return std::nullopt;
  }
  std::vector<double> steps;
  std::vector<double> rows;
  for (const auto& [number, peer] : groups) {
    const std::optional<GroupPace>& pace = peer.load.pace();
    if (number == group.number || peer.key != group.key || peer.state != GroupState::kReady ||
        IsOut(number) || !pace || now - pace->time > kPeersPaceNs) {
      continue;
    }
    steps.push_back(pace->step_us);
    rows.push_back(pace->row_us);
  }
  if (steps.size() < kPeersMin) return std::nullopt;
  return std::min(own->step_us / Median(std::move(steps)), own->row_us / Median(std::move(rows)));
}

bool Outliers::IsOut(uint64_t group) const {
  const auto entry = entries_.find(group);
  return entry != entries_.end() && entry->second.state != State::kIn;
}

std::map<ModelKey, Outliers::Count> Outliers::CountOut(const GroupMap& groups) const {
  std::map<ModelKey, Count> counts;
  for (const auto& [number, group] : groups) {
    if (group.state != GroupState::kReady) continue;
    Count& count = counts[group.key];
    ++count.ready;
    if (IsOut(number)) ++count.out;
  }
  return counts;
}

void Outliers::Settle(const GroupMap& groups) {
  std::set<ModelKey> panics;
  for (const auto& [key, count] : CountOut(groups)) {
    const double allowed = rules_.ejected_share_max * static_cast<double>(count.ready);
    if (static_cast<double>(count.out) > allowed) panics.insert(key);
    if (panics.contains(key) == panics_.contains(key)) continue;
    const bool began = panics.contains(key);
    records_.push_back(
        {.kind = began ? RecordKind::kPanicBegan : RecordKind::kPanicEnded,
         .detail = began ? Str("more than ", rules_.ejected_share_max,
                               " of the groups fail: all are used, ", key)
                         : Str("few enough groups fail to leave them out, ", key),
         .figures = {{"groups_out", static_cast<double>(count.out), "what became of requests"},
                     {"groups_ready", static_cast<double>(count.ready), "the region"}}});
  }
  panics_ = std::move(panics);
  for (auto& [number, entry] : entries_) {
    const auto group = groups.find(number);
    entry.ignored = group != groups.end() && panics_.contains(group->second.key);
  }
}

double Outliers::ShareOf(uint64_t group, TimeNs now) const {
  const auto found = entries_.find(group);
  if (found == entries_.end() || found->second.ignored) return 1;
  const Entry& entry = found->second;
  if (entry.state == State::kOut) return 0;
  // Of one that is tried: it gets one at a time, and that soon.
  if (!entry.returned || rules_.slow_start_ms == 0) return 1;
  const double passed = static_cast<double>(now - *entry.returned) /
                        static_cast<double>(rules_.slow_start_ms * kMillisecondNs);
  return std::clamp(passed, kFirstShare, 1.0);
}

std::optional<size_t> Outliers::GivenMax(uint64_t group) const {
  const auto found = entries_.find(group);
  if (found == entries_.end() || found->second.ignored || found->second.state == State::kIn) {
    return std::nullopt;
  }
  return found->second.state == State::kOut ? 0 : 1;
}

std::vector<Record> Outliers::TakeRecords() { return std::exchange(records_, {}); }

std::vector<uint64_t> Outliers::TakeSlow() { return std::exchange(slow_, {}); }

}  // namespace shoal::core
