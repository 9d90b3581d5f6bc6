#pragma once

// What each tenant has in flight and has used of its quota.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "coordinator/core/tenants/tenant_policy.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core {

// What a request was charged. Whoever has it gives it back once, by Tenants::End.
struct Grant {
  std::string tenant{};
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t tokens = 0;  // Of work, taken from the quota.

  bool operator==(const Grant&) const = default;
};

// Charging is the last step of admission: what was charged is admitted, what was refused costs
// nothing. Threading: none; owned by Region.
class Tenants {
 public:
  // `edge_limit`: whether quotas are kept (Protections).
  Tenants(std::shared_ptr<const TenantsPolicy> policy, bool edge_limit);

  // From now on that holds. Tenants that stay keep what they have used and what is in flight.
  void Configure(std::shared_ptr<const TenantsPolicy> policy, TimeNs now);

  // The class that a request of those terms has: as asked for, at most its tenant's own.
  ServiceClass ClassOf(const RequestTerms& terms) const;
  // Why a request of those terms would be refused whatever its size; none: it depends on that.
  std::optional<StreamError> FindRefusal(const RequestTerms& terms, TimeNs now) const;
  // Takes `tokens` of work from its tenant's quota, and counts it as in flight. Otherwise
  // kQuotaExceeded, saying which bound it was and when to come again.
  std::variant<Grant, StreamError> Charge(const RequestTerms& terms, int64_t tokens, TimeNs now);
  // Of a stream that another coordinator admitted: it is in flight, and its quota is not asked.
  Grant Adopt(const std::string& tenant, ServiceClass service_class);
  // It has ended, and used so many tokens of what it was charged: the rest is given back.
  void End(const Grant& grant, int64_t tokens_used, TimeNs now);

  const TenantsPolicy& policy() const { return *policy_; }
  // As its policy says, or the defaults.
  const TenantPolicy& PolicyOf(const std::string& tenant) const;

 private:
  std::shared_ptr<const TenantsPolicy> policy_;
  const bool edge_limit_;
  std::map<std::string, int64_t> in_flight_;  // By tenant; none is 0.
};

}  // namespace shoal::core
