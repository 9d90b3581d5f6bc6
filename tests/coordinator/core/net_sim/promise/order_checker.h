#pragma once

// That nobody is given a place who is less important than somebody who waits for it.

#include <cstdint>
#include <map>
#include <vector>

#include "coordinator/core/region.h"
#include "coordinator/core/tenants/tenant_policy.h"
#include "tests/coordinator/core/net_sim/net/context.h"

namespace shoal::core::net_sim {

class OrderChecker {
 public:
  // It outlives it.
  explicit OrderChecker(Context& context) : context_(context) {}

  void NewRegion() { waiting_.clear(), placed_.clear(); }
  // A group with so much KV cache was given it in this event.
  void Placed(StreamId id, int64_t kv_cache_tokens) { placed_.push_back({id, kv_cache_tokens}); }
  // After every event.
  void Check(const Region& region, const TenantsPolicy& policy);

 private:
  struct Placement {
    StreamId id;
    int64_t kv_cache_tokens;
  };
  struct Waiting {
    ModelKey key;
    ServiceClass service_class;
    int64_t tokens;
    bool on_trial;
  };

  void CheckPlaced(const Placement& placed, const Region& region, const TenantsPolicy& policy);

  Context& context_;
  std::map<StreamId, Waiting> waiting_;  // Before this event.
  std::vector<Placement> placed_;
};

}  // namespace shoal::core::net_sim
