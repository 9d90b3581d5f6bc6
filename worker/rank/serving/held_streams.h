#pragma once

// What a leader remembers of its sequences, so that no token is lost with a coordinator: each
// request, and all that came of it since.
//
// Pure: it has no clock and cancels nothing itself; the step loop asks and acts.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/sequence_request.h"

namespace shoal::rank {

struct HeldLimits {
  // Resumable sequences that have ended other than by a cancel and were not released: more, and the
  // oldest is forgotten.
  size_t ended_max = 64;
  // Of everything. More, and what has ended is forgotten, the oldest first; then the longest live
  // sequence, which then ends with its coordinator.
  size_t bytes_max = size_t{64} << 20;
  // How long the end of any sequence is remembered: a broken connection is noticed sooner, so what
  // was said earlier has arrived.
  int64_t ended_ms = 2'000;
  // How long sequences that are not resumable go on without a coordinator.
  int64_t plain_grace_ms = 2'000;
};

// Threading: one thread. Costs: a few map operations for each update, whatever is held.
class HeldStreams {
 public:
  explicit HeldStreams(const HeldLimits& limits = {}) : limits_(limits) {}

  bool Knows(uint64_t id) const { return entries_.contains(id); }

  // The engine took the request. Precondition: its id is not known.
  void Begin(SequenceRequest request);
  // What the engine says of it, in order. Result: false if the id is not known: nobody waits for
  // the update.
  bool Add(const SequenceUpdate& update, TimeNs now);
  // A request that the engine did not get, or not any more; `update` is its end.
  void Refuse(const SequenceUpdate& update, TimeNs now);
  // Nobody will ask for it: forgotten once it has ended.
  void Release(uint64_t id);

  // The coordinator is gone, at `now`. The first loss counts until one of the three below.
  void Orphan(TimeNs now, int64_t orphan_grace_ms);
  // What is not held any longer by `now`: forgotten here, to be cancelled in the engine.
  std::vector<uint64_t> Expire(TimeNs now);

  // All of one sequence: everything since its begin. Nothing if it is not known or not held.
  std::optional<SequenceUpdate> All(uint64_t id) const;

  // What a coordinator that took the group is told. What it is not told is forgotten here.
  struct Told {
    std::vector<SequenceUpdate> updates;
    std::vector<HeldStream> streams;
    std::vector<uint64_t> cancelled;  // Was live: to be cancelled in the engine.
  };
  // One that is back and knows the sequences: all of each, also of those of which nothing has come
  // yet.
  Told SendAgain();
  // Another one: what is resumable is its own now.
  Told HandOver();
  // One that is back, and may not have heard the hand-over to its end: what is resumable is handed
  // over again, of the others all is told.
  Told HandOverAgain();

  size_t size() const { return entries_.size(); }
  size_t bytes() const { return bytes_; }
  size_t ended_count() const { return ended_.size(); }  // Resumable ones.

 private:
  struct Entry {
    HeldStream stream;
    size_t bytes = 0;
    bool held = true;  // False: it was too long, and only its id is known.
    bool ended = false;
    std::list<uint64_t>::iterator place{};  // In ended_, if it is resumable and has ended.
  };
  using Entries = std::map<uint64_t, Entry>;

  void Grow(Entry& entry, size_t bytes);
  void End(Entries::iterator found, TimeNs now);
  void Shrink();
  void Forget(Entries::iterator found);
  template <typename Tell>
  Told TellEach(Tell&& tell);

  const HeldLimits limits_;
  Entries entries_;
  std::list<uint64_t> ended_;                       // Resumable ones, by their end.
  std::deque<std::pair<TimeNs, uint64_t>> closed_;  // The others that have ended: until when.
  size_t bytes_ = 0;
  struct Orphaned {
    TimeNs plain_until;
    TimeNs until;
  };
  std::optional<Orphaned> orphaned_;
  bool plain_gone_ = false;  // Those that are not resumable have been forgotten since the loss.
};

}  // namespace shoal::rank
