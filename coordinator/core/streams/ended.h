#pragma once

// Resumable streams that have ended: all that came of each, for a client that comes back for it.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "coordinator/core/streams/streams.h"
#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/stream_id.h"

namespace shoal::core {

// Ended streams that are kept.
constexpr size_t kEndedStreamsMax = 1'024;

// The group whose leader holds all that came of a stream, for another coordinator.
struct Holder {
  uint64_t group = 0;
  uint64_t epoch = 0;
  SequenceId sequence = 0;

  bool operator==(const Holder&) const = default;
};

struct EndedStream {
  Stream stream;
  SequenceUpdate end;  // How it ended; what it brought is in `stream`.
  Holder holder;
  TimeNs until = 0;  // When it is forgotten.
};

// Threading: none; owned by Region.
class EndedStreams {
 public:
  // It is not here yet. Result: one that had to go for it.
  std::optional<EndedStream> Add(StreamId id, EndedStream ended);
  // Null if it is not here.
  EndedStream* Find(StreamId id);
  // None if it is not here.
  std::optional<EndedStream> Remove(StreamId id);
  // Whether one of them is held there.
  bool HasHolder(const Holder& holder) const;
  // Those whose time is over.
  std::vector<StreamId> Expired(TimeNs now) const;

  const std::map<StreamId, EndedStream>& all() const { return streams_; }
  void Clear();

 private:
  std::map<StreamId, EndedStream> streams_;
  std::deque<StreamId> order_;  // As they ended.
};

}  // namespace shoal::core
