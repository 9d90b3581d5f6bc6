#pragma once

// Which rungs of the ladder a request is to ask, and in which order.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/ladder/ladder_policy.h"
#include "transport/base/clock.h"

namespace shoal::core {

// The level has changed.
struct LadderChange {
  int32_t from = 0;
  int32_t to = 0;
  std::string why{};

  bool operator==(const LadderChange&) const = default;
};

// A request whose rung refuses goes down at once, whatever the level. The level is where requests
// begin: it goes a rung down when refusals pile up or a breaker asks for it, and up when neither
// has been so for hold_ms. It turns around at most once in hold_ms. Threading: none.
class Ladder {
 public:
  static constexpr size_t kSessionsMax = 10'000;

  explicit Ladder(LadderPolicy policy);

  // From now on the rungs are those. The level stays, or becomes the lowest rung that is left;
  // conversations start anew, for their rungs may be others.
  void Configure(LadderPolicy policy, TimeNs now);

  // Each rung once that may answer a request of that class: those at the level and below it, then
  // those above it, from the model itself (0, always there) on. A conversation that a model's rung
  // has answered stays there, for hold_ms after each answer. `session`: empty if it is none.
  std::vector<int32_t> Order(ServiceClass service_class, const std::string& session, TimeNs now);
  // Whether a lower rung may answer what was refused for that reason.
  bool MayDegrade(BusyReason reason) const;

  // What a rung that computes, 0 or a model's, did with a request.
  void NoteRefusal(int32_t rung, BusyReason reason, TimeNs now);
  void NoteAnswer(int32_t rung, const std::string& session, TimeNs now);
  // Time has passed. `asked`: a breaker wants requests to be degraded.
  void Tick(bool asked, TimeNs now);

  int32_t level() const { return level_; }
  const LadderPolicy& policy() const { return policy_; }
  size_t session_count() const { return sessions_.size(); }
  // The oldest change that was not taken yet.
  std::optional<LadderChange> TakeChange();

 private:
  struct Place {
    int32_t rung = 0;
    TimeNs until = 0;
  };

  bool MayAnswer(int32_t rung, ServiceClass service_class) const;
  bool Rested(TimeNs now) const;  // The level has been the same for hold_ms.
  bool MayGoDown(TimeNs now) const { return went_down_ || Rested(now); }
  void Go(int32_t to, std::string why, TimeNs now);
  int32_t lowest() const { return static_cast<int32_t>(policy_.rungs.size()); }
  TimeNs hold_ns() const { return policy_.hold_ms * kMillisecondNs; }

  LadderPolicy policy_;
  int32_t level_ = 0;
  std::deque<TimeNs> refusals_;         // Of the level's own rung, within within_ms.
  std::optional<TimeNs> last_trouble_;  // Something asked for the level or a lower one.
  std::optional<TimeNs> last_change_;
  bool went_down_ = true;  // By the last change.
  std::map<std::string, Place> sessions_;
  std::deque<LadderChange> changes_;
};

}  // namespace shoal::core
