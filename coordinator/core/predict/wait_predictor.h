#pragma once

// How long a request that comes now will wait for its first token, and how long its answer takes.

#include <cstdint>
#include <optional>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/streams/streams.h"
#include "transport/base/clock.h"

namespace shoal::core {

// What is asked about.
struct WaitQuestion {
  ModelKey key;
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t prompt_tokens = 0;
  int64_t tokens_max = 0;
};

struct WaitAnswer {
  int64_t first_token_ms = 0;  // From now to its first token.
  int64_t last_token_ms = 0;   // From now to its last one, if it becomes as long as it may.
};

// Learns each group's rates from what it reports. Threading: none; owned by Region.
class WaitPredictor {
 public:
  // A group has reported how it stands.
  void Learn(const Group& group, const SchedulerStats& stats, TimeNs now);
  void Forget(uint64_t group);
  // None while no group of the key has been measured.
  std::optional<WaitAnswer> Predict(const WaitQuestion& question, const GroupMap& groups,
                                    const Streams& streams) const;
  // A stream that was predicted to wait so long for its first token has had it after so long.
  void NoteOutcome(int64_t predicted_ms, int64_t actual_ms);
};

}  // namespace shoal::core
