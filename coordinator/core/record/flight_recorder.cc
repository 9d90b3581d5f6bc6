#include "coordinator/core/record/flight_recorder.h"

#include <array>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr std::array<std::string_view, kRecordKinds> kNames = {
    "admitted",     "rejected",      "joined",         "placed",         "first_token",
    "preempted",    "parked",        "degraded",       "expired",        "finished",
    "failed",       "cancelled",     "group_ready",    "group_lost",     "ejected",
    "returned",     "drained",       "breaker_opened", "breaker_probed", "breaker_closed",
    "rung_changed", "policy_loaded", "policy_refused", "panic_began",    "panic_ended"};

}  // namespace

std::string_view ToString(RecordKind kind) { return kNames.at(static_cast<size_t>(kind)); }

FlightRecorder::FlightRecorder(const Clock& clock, int64_t unix_ms_at_zero)
    : clock_(clock), unix_ms_at_zero_(unix_ms_at_zero) {}

void FlightRecorder::Note(Record record) {
  record.time = clock_.now();
  record.unix_ms = unix_ms_at_zero_ + record.time / kMillisecondNs;
  records_.push_back(std::move(record));
  if (records_.size() <= kRecordsMax) return;
  records_.pop_front();
  ++forgotten_;
}

std::vector<Record> FlightRecorder::Find(const RecordQuery& query) const {
  const TimeNs since = query.since_ms == 0 ? 0 : clock_.now() - query.since_ms * kMillisecondNs;
  std::vector<Record> found;
  for (const Record& record : records_) {
    if (query.since_ms != 0 && record.time < since) continue;
    if (!query.request.empty() && record.request != query.request &&
        Str(record.stream) != query.request) {
      continue;
    }
    found.push_back(record);
  }
  return found;
}

}  // namespace shoal::core
