#pragma once

// What each tenant has in flight and has used of its quota.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>

#include "coordinator/core/tenants/retry_budget.h"
#include "coordinator/core/tenants/tenant_policy.h"
#include "coordinator/core/tenants/token_bucket.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core {

// What a request was charged, and its share of the service. Whoever has it gives it back once, by
// Tenants::End.
struct Grant {
  std::string tenant{};  // Empty: none that the policy names.
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t tokens = 0;      // Of work, taken from the quota. 0: it had no bound.
  double weight = 1;       // TenantPolicy's, as of then.
  double floor_share = 0;  // Likewise.

  bool operator==(const Grant&) const = default;
};

// Charging is the last step of admission: what was charged is admitted, what was refused costs no
// quota. Threading: none; owned by Region.
class Tenants {
 public:
  // `edge_limit`: whether quotas are kept (Protections).
  Tenants(std::shared_ptr<const TenantsPolicy> policy, bool edge_limit);

  // From now on that holds. Tenants that stay keep what they have used and what is in flight; one
  // that is no more is forgotten with the last of its requests.
  void Configure(std::shared_ptr<const TenantsPolicy> policy, TimeNs now);

  // The class that a request of those terms has: as asked for, at most its tenant's own.
  ServiceClass ClassOf(const RequestTerms& terms) const;
  // kQuotaExceeded for a retry that is one too many for its tenant now. Nothing is counted.
  std::optional<StreamError> FindRetryRefusal(const RequestTerms& terms, TimeNs now) const;
  // A request is tried; call once for each, before anything else is asked of it. It counts whatever
  // becomes of it: what was refused, for whatever reason, is what clients try again, and a budget
  // of what was taken would not bound them. Result: as FindRetryRefusal, and then it counts for
  // nothing, so that a client which asks too often has its budget back once the window is over.
  std::optional<StreamError> NoteAttempt(const RequestTerms& terms, TimeNs now);
  // Why a request of those terms would be refused whatever its size; none: it depends on that.
  std::optional<StreamError> FindRefusal(const RequestTerms& terms) const;
  // Takes `tokens` of work from its tenant's quota, and counts it as in flight. Otherwise
  // kQuotaExceeded, saying which bound it was and when to come again; kTooLarge for what no rest
  // would make room for.
  std::variant<Grant, StreamError> Charge(const RequestTerms& terms, int64_t tokens, TimeNs now);
  // Of a stream that another coordinator admitted: it is in flight, and its quota is not asked.
  Grant Adopt(const std::string& tenant, ServiceClass service_class);
  // It has ended, and used so many tokens of what it was charged: the rest is given back.
  void End(const Grant& grant, int64_t tokens_used, TimeNs now);

  const TenantsPolicy& policy() const { return *policy_; }
  // As its policy says, or the defaults. Cost: O(1).
  const TenantPolicy& PolicyOf(const std::string& tenant) const;

  // What the requests of a tenant that have not ended were granted, together.
  struct Held {
    int64_t requests = 0;
    int64_t tokens = 0;

    bool operator==(const Held&) const = default;
  };
  // Of those that have any.
  std::map<std::string, Held> held() const;

 private:
  struct Usage {
    Held held;
    std::optional<TokenBucket> bucket;  // None: no bound.
    RetryBudget retries;
  };

  // Null if the policy does not name it.
  const TenantPolicy* Find(const std::string& tenant) const;
  // What the tenant has used; of whoever has none of the names, together.
  Usage& UsageOf(const std::string& tenant, TimeNs now);
  Grant MakeGrant(const std::string& tenant, ServiceClass service_class, int64_t tokens) const;

  std::shared_ptr<const TenantsPolicy> policy_;
  const bool edge_limit_;
  std::unordered_map<std::string, const TenantPolicy*> by_name_;
  // Of those that have come, and, until its last request has ended, of one that was removed.
  std::unordered_map<std::string, Usage> usage_;
};

}  // namespace shoal::core
