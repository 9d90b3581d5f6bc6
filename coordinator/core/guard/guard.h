#pragma once

// Breakers, and groups that are left out of routing because they fail or are slow.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/guard/guard_rules.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// Threading: none; owned by Region.
class Guard {
 public:
  // `active`: whether it does anything at all (Protections).
  Guard(GuardRules rules, bool active);

  // Why no request of that class is taken now. None: it may be.
  std::optional<StreamError> FindRefusal(ServiceClass service_class, TimeNs now) const;
  // Whether a breaker wants requests to be answered by less than they ask for.
  bool degrades() const { return false; }
  // In [0, 1]: the share of its usual load that a group gets. 0: it is left out.
  double ShareOf(uint64_t group, TimeNs now) const;

  // What a group did with a sequence that it was given.
  void NoteSuccess(uint64_t group, TimeNs now);
  void NoteError(uint64_t group, TimeNs now);
  void Forget(uint64_t group);
  // Time has passed.
  void Tick(const GroupMap& groups, TimeNs now);

 private:
  const GuardRules rules_;
  const bool active_;
};

}  // namespace shoal::core
