#include "tests/coordinator/core/net_sim/promise/order_checker.h"

#include "tests/coordinator/core/net_sim/net/overload.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

// Who has a floor may come before better ones. A stream on trial waits for a group of its own.
void OrderChecker::CheckPlaced(const Placement& placed, const Region& region,
                               const TenantsPolicy& policy) {
  const auto found = region.streams().find(placed.id);
  if (found == region.streams().end()) return;
  const Stream& stream = found->second;
  const ServiceClass service_class = stream.grant.service_class;
  if (policy.classes[static_cast<size_t>(service_class)].floor_share > 0 ||
      PolicyOf(policy, stream.grant.tenant).floor_share > 0) {
    return;
  }
  for (const auto& [id, waiting] : waiting_) {
    const auto other = region.streams().find(id);
    if (waiting.service_class >= service_class || waiting.key != stream.key || waiting.on_trial ||
        waiting.tokens > placed.kv_cache_tokens || other == region.streams().end() ||
        other->second.group) {
      continue;
    }
    context_.Violation(Str("stream ", placed.id, " of class ", ToString(service_class),
                           " is given a place, and stream ", id, " of class ",
                           ToString(waiting.service_class), " waits for one"));
  }
}

void OrderChecker::Check(const Region& region, const TenantsPolicy& policy) {
  for (const Placement& placed : placed_) CheckPlaced(placed, region, policy);
  placed_.clear();
  waiting_.clear();
  for (const auto& [id, stream] : region.streams()) {
    if (stream.group) continue;
    waiting_.insert(
        {id, {stream.key, stream.grant.service_class, stream.tokens_needed, stream.on_trial()}});
  }
}

}  // namespace shoal::core::net_sim
