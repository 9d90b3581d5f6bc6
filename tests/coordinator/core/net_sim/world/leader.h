#pragma once

// What a leader does, without computing anything: tokens come from TwinState, step by step. What it
// remembers of its sequences it remembers as a real one does (held_streams.h).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/streams/generation_state.h"
#include "tests/coordinator/core/net_sim/net/chance.h"
#include "tests/coordinator/core/net_sim/world/twin.h"
#include "transport/base/clock.h"
#include "transport/base/generation/sequence_request.h"
#include "worker/rank/serving/held_streams.h"

namespace shoal::core::net_sim {

// Why it refuses a request for good.
inline constexpr const char* kDisliked = "it is not to its liking";

class Leader {
 public:
  // All outlive it.
  Leader(const RankRegistration& shape, Chance& chance, const Clock& clock)
      : shape_(shape), chance_(chance), clock_(clock) {}

  // What is known already changes nothing. Result: false if it has no room for it.
  bool Submit(const SequenceRequest& request);
  void Cancel(SequenceId id);
  void Release(SequenceId id) { held_.Release(id); }

  // One step of up to sequences_max sequences. Result: what came of them.
  std::vector<SequenceUpdate> Step();
  // Of requests that were refused.
  std::vector<SequenceUpdate> TakeRefusals() { return std::exchange(refusals_, {}); }

  // As those of HeldStreams.
  void Orphan(int64_t orphan_grace_ms) { held_.Orphan(clock_.now(), orphan_grace_ms); }
  void Expire();
  rank::HeldStreams::Told Introduce(bool continued, bool introduced_before);
  // Its process is gone.
  void DropAll() { live_.clear(); }

  // The live sequences.
  const auto& live() const { return live_; }
  bool busy() const { return !live_.empty(); }
  // Resumable ones that have ended and were not released.
  size_t held() const { return held_.ended_count(); }
  bool poisoned() const { return poisoned_; }
  uint64_t steps() const { return steps_; }
  int64_t preemptions() const { return stats_.preemptions_total; }
  // A step was under way for so long.
  void NoteBusy(int64_t microseconds) { stats_.busy_us_total += microseconds; }
  SchedulerStats stats() const;

  bool unsound = false;       // It computes canaries with a bit that is wrong.
  int64_t refuse_one_in = 0;  // 0: none.
  bool fails = false;         // It gives sequences up.

 private:
  struct Live {
    SequenceRequest request;
    TwinState state;
    int64_t tokens = 0;           // With those that it was given.
    int64_t prompt_logprobs = 0;  // Likewise.
    bool started = false;         // It has had one of the step's places.
    bool running = false;         // It has one of the step's places.
    bool cancelled = false;
    std::optional<TimeNs> deadline{};
  };

  // The first of those that wait, or the last of those that run. Null: there is none.
  Live* FindNext(bool running);
  void StartWaiting();
  // Nothing is worked on whose time is over.
  void EndOverdue(std::vector<SequenceUpdate>& updates);
  SequenceUpdate Advance(Live& live);
  static bool IsCanary(const Live& live) { return live.request.stream == StreamId{}; }

  const RankRegistration& shape_;
  Chance& chance_;
  const Clock& clock_;
  std::map<SequenceId, Live> live_;
  rank::HeldStreams held_;
  std::vector<SequenceUpdate> refusals_;
  uint64_t steps_ = 0;
  SchedulerStats stats_{};  // What is counted.
  bool poisoned_ = false;
};

}  // namespace shoal::core::net_sim
