#pragma once

// The last records of a region, for whoever asks afterwards why something happened.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "coordinator/core/record/record.h"
#include "transport/base/clock.h"

namespace shoal::core {

// Since the region began; these never fall.
struct RecordCounts {
  std::array<int64_t, kRecordKinds> kinds{};
  std::array<int64_t, kBusyReasons> rejected{};  // kRejected, by reason.

  int64_t of(RecordKind kind) const { return kinds.at(static_cast<size_t>(kind)); }
};

// Bounded in number and in bytes: the oldest record goes first. Asking for one request takes as
// long as it has records, whatever else is remembered. Threading: none; owned by Region.
class FlightRecorder {
 public:
  static constexpr size_t kRecordsMax = 65'536;
  static constexpr size_t kBytesMax = size_t{32} << 20;
  static constexpr size_t kDetailBytesMax = 512;  // What is longer is cut, at a whole character.
  static constexpr size_t kNameBytesMax = 256;    // Of a request, a tenant, a figure, a source.
  static constexpr size_t kFiguresMax = 16;

  // `clock` outlives it. `unix_ms_at_zero`: milliseconds since 1970 when the clock was at 0.
  FlightRecorder(const Clock& clock, int64_t unix_ms_at_zero);

  void Note(Record record);
  RecordPage Find(const RecordQuery& query) const;
  const RecordCounts& counts() const { return counts_; }
  size_t size() const { return records_.size(); }
  size_t bytes() const { return bytes_; }
  uint64_t forgotten() const { return forgotten_; }  // Records that had to go.

 private:
  using Numbers = std::deque<uint64_t>;  // Of records, rising.

  void Forget();  // The oldest one.
  const Record& At(uint64_t number) const { return records_[number - records_.front().number]; }
  // Those of a request that are named so: by its client, as a stream, or as an answer over HTTP.
  Numbers NumbersOf(const std::string& request) const;

  const Clock& clock_;
  const int64_t unix_ms_at_zero_;
  std::deque<Record> records_;
  std::map<std::string, Numbers, std::less<>> by_request_;
  std::map<StreamId, Numbers> by_stream_;
  RecordCounts counts_;
  size_t bytes_ = 0;
  uint64_t next_number_ = 1;
  uint64_t forgotten_ = 0;
};

}  // namespace shoal::core
