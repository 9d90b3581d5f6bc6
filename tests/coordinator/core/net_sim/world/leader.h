#pragma once

// What a leader's scheduler and its record of sequences do, without computing anything: tokens come
// from TwinState, step by step.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/streams/generation_state.h"
#include "tests/coordinator/core/net_sim/net/chance.h"
#include "tests/coordinator/core/net_sim/world/twin.h"
#include "transport/base/clock.h"
#include "transport/base/generation/sequence_request.h"

namespace shoal::core::net_sim {

class Leader {
 public:
  // Both outlive it. An unsound one computes canaries with a bit that is wrong.
  Leader(const RankRegistration& shape, Chance& chance) : shape_(shape), chance_(chance) {}

  // What is known already, or not any more, changes nothing.
  void Submit(const SequenceRequest& request);
  void Cancel(SequenceId id);
  void Release(SequenceId id);

  // One step of up to sequences_max sequences. Result: what came of them.
  std::vector<SequenceUpdate> Step();

  // Of every live sequence all that came of it, for the coordinator that knows part of it.
  std::vector<SequenceUpdate> TellAgain() const;
  // The resumable sequences, for a coordinator that knows nothing; the others are gone.
  std::vector<HeldStream> HandOver();
  // Sequences that nobody will ask for.
  void DropTransient();
  void DropAll() { records_.clear(); }

  bool busy() const;
  // Of ended ones.
  size_t held() const;
  bool poisoned() const { return poisoned_; }
  uint64_t steps() const { return steps_; }

  bool unsound = false;
  int64_t refuse_one_in = 0;  // 0: none.

 private:
  struct Record {
    SequenceRequest request;
    TwinState state;
    SequenceUpdate all{};
    bool cancelled = false;
    bool refused = false;
  };

  SequenceUpdate Advance(Record& record);
  bool IsCanary(const Record& record) const { return record.request.stream == StreamId{}; }
  void BoundHeld();

  const RankRegistration& shape_;
  Chance& chance_;
  std::map<SequenceId, Record> records_;
  uint64_t steps_ = 0;
  bool poisoned_ = false;
};

}  // namespace shoal::core::net_sim
