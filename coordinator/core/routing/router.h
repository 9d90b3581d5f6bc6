#pragma once

// Which group takes a request.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/guard/guard.h"
#include "coordinator/core/routing/routing_policy.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_id.h"

namespace shoal::core {

struct RouteQuestion {
  const ModelKey& key;
  int64_t tokens = 0;  // That it will hold at its longest.
  ServiceClass service_class = ServiceClass::kCritical;
  std::optional<uint64_t> avoid{};  // A group that is chosen only if no other one has room.
  bool on_trial = false;  // A group that has such a stream already has no room for another one.
  StreamId stream{};      // What is drawn at random is drawn from it.
  const std::string& session;  // Empty: none.
  const std::vector<int32_t>& prompt;
  const std::string& salt;  // PrefixSalt.
  bool may_share = true;    // It looks for its prefix at all.
};

// Threading: none; owned by Region.
class Router {
 public:
  // Not `active`: groups take turns, whatever is known of them (Protections).
  Router(RoutingPolicy policy, bool active);

  // None if no ready group of that key has room now. A session goes to its own group, if that is
  // well, whatever the policy.
  std::optional<uint64_t> Choose(const RouteQuestion& question, const GroupMap& groups,
                                 const Guard& guard, TimeNs now) const;

 private:
  const RoutingPolicy policy_;
  const bool active_;
};

}  // namespace shoal::core
