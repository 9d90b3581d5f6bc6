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
  bool on_trial = false;  // A group that has such a stream already has no room for another one.
  StreamId stream{};      // What is drawn at random is drawn from it.
  const std::string& session;  // Empty: none.
  const std::vector<int32_t>& prompt;
  const std::string& cache_salt;
};

// Threading: none; owned by Region.
class Router {
 public:
  explicit Router(RoutingPolicy policy);

  // None if no ready group of that key has room now.
  std::optional<uint64_t> Choose(const RouteQuestion& question, const GroupMap& groups,
                                 const Guard& guard, TimeNs now) const;

 private:
  const RoutingPolicy policy_;
};

}  // namespace shoal::core
