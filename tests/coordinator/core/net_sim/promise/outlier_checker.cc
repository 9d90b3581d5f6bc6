#include "tests/coordinator/core/net_sim/promise/outlier_checker.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// As promised to whoever writes the rules: its time out grows no longer than that.
constexpr int32_t kTimesMax = 10;

}  // namespace

void OutlierChecker::Eject(Entry& entry) {
  const TimeNs now = context_.loop.now();
  const int64_t once_ms = context_.swarm.overload.guard.outliers.ejection_ms;
  entry.state = State::kOut;
  entry.ejections = std::min(entry.ejections + 1, kTimesMax);
  entry.changed = now;
  entry.out_until = now + entry.ejections * once_ms * kMillisecondNs;
  entry.in_row = entry.errors = entry.successes = 0;
}

void OutlierChecker::NoteError(Entry& entry) {
  const OutlierRules& rules = context_.swarm.overload.guard.outliers;
  if (entry.state == State::kOut) return;
  if (context_.loop.now() - entry.window >= rules.interval_ms * kMillisecondNs) {
    entry.errors = entry.successes = 0;
    entry.window = context_.loop.now();
  }
  ++entry.in_row;
  ++entry.errors;
  const bool is_bad = entry.in_row >= rules.errors_max ||
                      (entry.errors >= rules.errors_max && entry.errors > entry.successes);
  if (entry.state == State::kIn && !is_bad) return;
  if (!entry.doubtful) ++context_.counters.ejected;
  Eject(entry);
}

void OutlierChecker::Ended(uint64_t number, const FakeGroup& group, bool well, bool sure) {
  const TimeNs now = context_.loop.now();
  if (!well || !sure) entries_.try_emplace(number, Entry{.window = now});
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  // Of one that was slow the region may have begun to count before.
  if (!sure || group.impaired()) entry.doubtful = true;
  if (!well) return NoteError(entry);
  entry.in_row = 0;
  ++entry.successes;
  if (entry.state != State::kTried) return;
  if (!entry.doubtful) ++context_.counters.returned;
  entry.state = State::kIn;
  entry.errors = entry.successes = 0;
  entry.window = entry.changed = now;
}

void OutlierChecker::Ticks() {
  const TimeNs once_ns = context_.swarm.overload.guard.outliers.ejection_ms * kMillisecondNs;
  const TimeNs now = context_.loop.now();
  for (auto& [number, entry] : entries_) {
    if (entry.state == State::kOut && now >= entry.out_until) {
      entry.state = State::kTried;
    } else if (entry.state == State::kIn && entry.ejections > 0 && now - entry.changed >= once_ns) {
      --entry.ejections;
      entry.changed = now;
    }
  }
}

void OutlierChecker::Settle(const Region& region) {
  struct Count {
    int64_t ready = 0;
    int64_t out = 0;
    bool doubtful = false;
  };
  std::map<ModelKey, Count> counts;
  for (const auto& [number, group] : region.groups()) {
    if (group.state != GroupState::kReady) continue;
    Count& count = counts[group.key];
    ++count.ready;
    const auto found = entries_.find(number);
    if (found == entries_.end()) continue;
    if (found->second.state != State::kIn) ++count.out;
    count.doubtful = count.doubtful || found->second.doubtful;
  }
  const double share = context_.swarm.overload.guard.outliers.ejected_share_max;
  for (const auto& [key, count] : counts) {
    const bool too_many = static_cast<double>(count.out) > share * static_cast<double>(count.ready);
    if (too_many || count.doubtful) panics_.insert(key);
  }
}

bool OutlierChecker::MayUseAll(const ModelKey& key, const Region& region) const {
  if (panics_.contains(key)) return true;
  OutlierChecker now = *this;
  now.Settle(region);
  return now.panics_.contains(key);
}

void OutlierChecker::SettleTick(const Region& region) {
  panics_.clear();
  Settle(region);
}

void OutlierChecker::Given(uint64_t number, const Region& region) {
  const auto found = entries_.find(number);
  const auto group = region.groups().find(number);
  if (found == entries_.end() || found->second.state == State::kIn || found->second.doubtful ||
      group == region.groups().end() || MayUseAll(group->second.key, region)) {
    return;
  }
  const size_t given = group->second.sequences.size() - (group->second.has_canary() ? 1 : 0);
  if (found->second.state == State::kTried && given <= 1) return;
  context_.Violation(Str("a stream is given to group ", number,
                         found->second.state == State::kOut
                             ? std::string(", which is left out for its errors")
                             : Str(", which is tried with one at a time and has ", given)));
}

void OutlierChecker::Ticked(uint64_t number, const FakeGroup& group, const Region& region) {
  const auto found = region.groups().find(number);
  if (found == region.groups().end()) return;
  const bool is_out = found->second.given_max == size_t{0};
  const auto own = entries_.find(number);
  if (own != entries_.end() && own->second.doubtful) return;
  const bool must_be_out = own != entries_.end() && own->second.state == State::kOut;
  if (is_out && (own == entries_.end() || own->second.state == State::kIn)) {
    // Not for its errors.
    if (!group.impaired()) {
      context_.Violation(Str(group.Name(), " is left out, and neither fails nor is slow"));
    }
    ++context_.counters.slow_ejected;
    Eject(entries_.try_emplace(number, Entry{.window = context_.loop.now()}).first->second);
  }
  if (!must_be_out || is_out || MayUseAll(found->second.key, region)) return;
  if (found->second.state != GroupState::kReady) return;
  context_.Violation(Str(group.Name(), " fails, and is not left out"));
}

}  // namespace shoal::core::net_sim
