#pragma once

// Which groups are lost, by the silence of a rank, by work that gets nowhere, or by not becoming
// ready.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/region_options.h"
#include "transport/base/clock.h"

namespace shoal::core {

// Threading: none; owned by Region. Both references outlive it.
class Health {
 public:
  struct Loss {
    uint64_t group = 0;  // Its number.
    LossCause cause = LossCause::kSilent;
    std::string why{};  // Empty: it is not lost.
  };

  Health(const RegionOptions& options, const Clock& clock);

  // A rank shows that it lives. `progress` changes while it gets on; `pending`: it has work.
  void Heartbeat(ConnectionId connection, uint64_t progress, bool pending);

  // Time has passed: call about every heartbeat_ms. A longer gap is the coordinator's own delay and
  // is not held against the ranks, whose heartbeats may lie unread in the sockets.
  // Result: the groups that are lost by now, each once.
  std::vector<Loss> Tick(const GroupMap& groups);
  // Whether one of its ranks has been silent for half the time after which it is lost, as of the
  // last tick.
  bool IsQuiet(const Group& group) const;

 private:
  struct Pulse {
    TimeNs silence_ns = 0;  // Since its last heartbeat, or its first tick.
    uint64_t progress = 0;  // As of its last heartbeat.
    bool pending = false;
    std::optional<TimeNs> away_ns;  // Since the first tick that found its connection broken.
    TimeNs stuck_ns = 0;            // For how long progress has stood still with work pending.
  };

  TimeNs silence_max_ns() const;
  Loss FindLoss(const Group& group, TimeNs age_ns,
                const std::map<ConnectionId, Pulse>& pulses) const;

  const RegionOptions& options_;
  const Clock& clock_;
  TimeNs last_tick_;
  // What is gone is forgotten at the next tick.
  std::map<ConnectionId, Pulse> pulses_;
  std::map<uint64_t, TimeNs> ages_ns_;  // By epoch, since the group's first rank registered.
};

}  // namespace shoal::core
