#pragma once

// Who may use a region, and how much of it: what a tenants file says.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/base/overload/service_class.h"

namespace shoal::core {

// Plain data. Work is counted in tokens: those of the prompt, and of the answer at its longest.
struct TenantPolicy {
  std::string name{};
  std::vector<std::string> keys{};  // API keys that are its own; no other tenant has one of them.
  ServiceClass service_class = ServiceClass::kCritical;  // The best that its requests may have.
  double weight = 1;                   // Its share among the tenants of a class that want service.
  double tokens_per_second = 0;        // Of work, in the long run. 0: no bound.
  double burst_tokens = 0;             // Of work, at once, after a rest. 0: one second's.
  int32_t requests_in_flight_max = 0;  // 0: no bound.
  double floor_share = 0;  // Of the service, in [0, 1): what it gets however many come before it.

  bool operator==(const TenantPolicy&) const = default;
};

struct ClassPolicy {
  double floor_share = 0;  // Of the service, in [0, 1): what better classes cannot take from it.

  bool operator==(const ClassPolicy&) const = default;
};

// All of a tenants file. Without one, everybody is the default tenant.
struct TenantsPolicy {
  std::vector<TenantPolicy> tenants{};     // Names are unique, and none is empty.
  ClassPolicy classes[kServiceClasses]{};  // By ServiceClass.
  TenantPolicy defaults{};                 // Of whoever is none of them; its name is empty.
  double retry_share_max = 0.2;            // Of a tenant's requests, those that may be retries.
  double shape_tokens_per_second = 0;      // Of work that each group is given. 0: no bound.

  bool operator==(const TenantsPolicy&) const = default;
};

}  // namespace shoal::core
