#pragma once

// The last records of a region, for whoever asks afterwards why something happened.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "coordinator/core/record/record.h"
#include "transport/base/clock.h"

namespace shoal::core {

struct RecordQuery {
  std::string request{};  // RequestTerms::name, or a stream's id. Empty: all.
  int64_t since_ms = 0;   // Not older than that. 0: all.
};

// Bounded: the oldest record goes first. Threading: none; owned by Region.
class FlightRecorder {
 public:
  static constexpr size_t kRecordsMax = 65'536;

  // `clock` outlives it. `unix_ms_at_zero`: milliseconds since 1970 when the clock was at 0.
  FlightRecorder(const Clock& clock, int64_t unix_ms_at_zero);

  void Note(Record record);
  // The latest last.
  std::vector<Record> Find(const RecordQuery& query) const;
  size_t size() const { return records_.size(); }
  uint64_t forgotten() const { return forgotten_; }  // Records that had to go.

 private:
  const Clock& clock_;
  const int64_t unix_ms_at_zero_;
  std::deque<Record> records_;
  uint64_t forgotten_ = 0;
};

}  // namespace shoal::core
