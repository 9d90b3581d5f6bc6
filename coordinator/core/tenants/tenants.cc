#include "coordinator/core/tenants/tenants.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

Tenants::Tenants(std::shared_ptr<const TenantsPolicy> policy, bool edge_limit)
    : policy_(policy ? std::move(policy) : std::make_shared<const TenantsPolicy>()),
      edge_limit_(edge_limit) {}

void Tenants::Configure(std::shared_ptr<const TenantsPolicy> policy, TimeNs /*now*/) {
  policy_ = std::move(policy);
}

const TenantPolicy& Tenants::PolicyOf(const std::string& tenant) const {
  const auto found = std::ranges::find(policy_->tenants, tenant, &TenantPolicy::name);
  return found == policy_->tenants.end() ? policy_->defaults : *found;
}

ServiceClass Tenants::ClassOf(const RequestTerms& terms) const {
  const ServiceClass own = PolicyOf(terms.tenant).service_class;
  return std::max(own, terms.service_class.value_or(own));
}

std::optional<StreamError> Tenants::FindRefusal(const RequestTerms& terms, TimeNs /*now*/) const {
  const TenantPolicy& policy = PolicyOf(terms.tenant);
  const auto found = in_flight_.find(terms.tenant);
  const int64_t in_flight = found == in_flight_.end() ? 0 : found->second;
  if (edge_limit_ && policy.requests_in_flight_max > 0 &&
      in_flight >= policy.requests_in_flight_max) {
    return MakeStreamError(BusyReason::kQuotaExceeded,
                           Str("the tenant has ", in_flight, " requests in flight, its bound is ",
                               policy.requests_in_flight_max));
  }
  return std::nullopt;
}

std::variant<Grant, StreamError> Tenants::Charge(const RequestTerms& terms, int64_t tokens,
                                                 TimeNs now) {
  if (auto refusal = FindRefusal(terms, now)) return *std::move(refusal);
  ++in_flight_[terms.tenant];
  return Grant{terms.tenant, ClassOf(terms), tokens};
}

Grant Tenants::Adopt(const std::string& tenant, ServiceClass service_class) {
  ++in_flight_[tenant];
  return {tenant, service_class, 0};
}

void Tenants::End(const Grant& grant, int64_t /*tokens_used*/, TimeNs /*now*/) {
  const auto found = in_flight_.find(grant.tenant);
  SHOAL_CHECK(found != in_flight_.end(), "tenant '", grant.tenant, "' has nothing in flight");
  if (--found->second == 0) in_flight_.erase(found);
}

}  // namespace shoal::core
