#pragma once

// The streams that have not ended: all that it takes to continue each, where it runs, and in which
// order those are served that wait for the same model.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/generation_state.h"
#include "coordinator/core/groups/model.h"
#include "transport/base/class_queue.h"
#include "transport/base/generation/generation.h"

namespace shoal::core {

// Plain data.
struct Stream : GenerationState {
  explicit Stream(Request granted) : GenerationState(std::move(granted)) {}

  ModelKey key;                   // Only groups of it may answer.
  int64_t tokens_needed = 0;      // Prompt and answer at their longest.
  std::optional<uint64_t> group;  // None: waiting.
  SequenceId sequence = 0;        // The later it came, the higher.
};
using StreamMap = std::map<StreamId, Stream>;

// A stream without a group waits; one that waits has no group. Threading: none; owned by Region.
class Streams {
 public:
  // `random`: 64 bits that nobody can guess.
  explicit Streams(std::function<uint64_t()> random);

  // Never given out before: for a canary, which is no stream.
  SequenceId TakeSequence() { return next_sequence_++; }
  // It waits, after those of its priority that have come before it.
  StreamId Add(Stream stream);
  // What waits leaves its queue for a group. Result: the stream.
  Stream& Place(StreamId id, uint64_t group);
  // It has ended, wherever it was.
  void Remove(StreamId id);

  // Null if there is none.
  Stream* Find(StreamId id);
  // None if that stream has ended, or is a canary.
  std::optional<StreamId> FindId(SequenceId sequence) const;

  const StreamMap& all() const { return streams_; }
  // By priority, then by arrival. Each key has a queue of its own, so that what is served of one
  // model never counts as having passed what waits for another.
  const ClassQueue<StreamId>& waiting(const ModelKey& key) const;
  const std::map<ModelKey, ClassQueue<StreamId>>& waiting() const { return waiting_; }
  size_t waiting_count() const;

 private:
  const std::function<uint64_t()> random_;
  SequenceId next_sequence_ = 1;
  StreamMap streams_;
  std::map<SequenceId, StreamId> ids_;  // Of every stream.
  // The sequences are the arrivals. None is empty.
  std::map<ModelKey, ClassQueue<StreamId>> waiting_;
};

}  // namespace shoal::core
