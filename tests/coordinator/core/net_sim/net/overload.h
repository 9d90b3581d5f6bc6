#pragma once

// What there is too much of under a seed, and what its region is told to do about it.

#include <cstdint>
#include <string>

#include "coordinator/core/guard/guard_rules.h"
#include "coordinator/core/routing/routing_policy.h"
#include "coordinator/core/tenants/tenant_policy.h"
#include "tests/coordinator/core/net_sim/net/chance.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core::net_sim {

// Each part is on in some seeds.
struct Overload {
  void Draw(Chance& chance, int64_t chaos_ms);
  // More of all, where there was some.
  void Favour(Chance& chance);

  // Of the same tenants and classes, with other quotas and weights.
  TenantsPolicy DrawReloaded(Chance& chance) const;
  // Whose a request is, how important, by when.
  RequestTerms DrawTerms(Chance& chance) const;

  bool tenants = false;         // Several, with quotas, weights, classes and floors.
  TenantsPolicy policy{};       // That a coordinator starts with.
  int64_t reload_every_ms = 0;  // How often there is another one. 0: never.
  double hurried = 0;           // Share of requests that have a deadline.
  double alike = 0;             // Share of requests that ask what others ask.
  bool reports = false;         // Groups tell of their work, so that waits can be predicted.
  GuardRules guard{};
  RoutingPolicy routing = RoutingPolicy::kPrefixAware;
  // Clients that come again at once when they are refused, and from when until when there are any.
  int64_t angry = 0;
  int64_t storm_from_ms = 0;
  int64_t storm_until_ms = 0;
};

// The tenant's own policy, or the defaults.
const TenantPolicy& PolicyOf(const TenantsPolicy& policy, const std::string& tenant);
// At most the tenant's own class.
ServiceClass ClassOf(const TenantsPolicy& policy, const RequestTerms& terms);

}  // namespace shoal::core::net_sim
