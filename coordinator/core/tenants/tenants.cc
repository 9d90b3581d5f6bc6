#include "coordinator/core/tenants/tenants.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

StreamError QuotaError(std::string message, int64_t retry_after_ms) {
  StreamError error = MakeStreamError(BusyReason::kQuotaExceeded, std::move(message));
  error.retry_after_ms = retry_after_ms;
  return error;
}

std::string Named(const std::string& tenant) {
  return tenant.empty() ? "whoever shows no tenant's key" : Str("tenant ", tenant);
}

}  // namespace

Tenants::Tenants(std::shared_ptr<const TenantsPolicy> policy, bool edge_limit)
    : edge_limit_(edge_limit) {
  Configure(policy ? std::move(policy) : std::make_shared<const TenantsPolicy>(), 0);
}

void Tenants::Configure(std::shared_ptr<const TenantsPolicy> policy, TimeNs now) {
  policy_ = std::move(policy);
  by_name_.clear();
  for (const TenantPolicy& tenant : policy_->tenants) by_name_[tenant.name] = &tenant;
  std::erase_if(usage_, [&](const auto& entry) {
    return !entry.first.empty() && Find(entry.first) == nullptr && entry.second.held.requests == 0;
  });
  for (auto& [name, usage] : usage_) {
    const TenantPolicy& tenant = PolicyOf(name);
    if (tenant.tokens_per_second <= 0) {
      usage.bucket.reset();
    } else if (usage.bucket) {
      usage.bucket->Configure(tenant.tokens_per_second, tenant.burst_tokens, now);
    } else {
      usage.bucket.emplace(tenant.tokens_per_second, tenant.burst_tokens, now);
    }
  }
}

const TenantPolicy* Tenants::Find(const std::string& tenant) const {
  const auto found = by_name_.find(tenant);
  return found == by_name_.end() ? nullptr : found->second;
}

const TenantPolicy& Tenants::PolicyOf(const std::string& tenant) const {
  const TenantPolicy* found = Find(tenant);
  return found == nullptr ? policy_->defaults : *found;
}

Tenants::Usage& Tenants::UsageOf(const std::string& tenant, TimeNs now) {
  const TenantPolicy* named = Find(tenant);
  const TenantPolicy& policy = named == nullptr ? policy_->defaults : *named;
  const auto [entry, is_new] = usage_.try_emplace(named == nullptr ? std::string() : tenant);
  if (is_new && policy.tokens_per_second > 0) {
    entry->second.bucket.emplace(policy.tokens_per_second, policy.burst_tokens, now);
  }
  return entry->second;
}

ServiceClass Tenants::ClassOf(const RequestTerms& terms) const {
  const ServiceClass own = PolicyOf(terms.tenant).service_class;
  return std::max(own, terms.service_class.value_or(own));
}

std::optional<StreamError> Tenants::FindRetryRefusal(const RequestTerms& terms, TimeNs now) const {
  if (!edge_limit_ || terms.attempt <= 1) return std::nullopt;
  const std::string& tenant = PolicyOf(terms.tenant).name;
  const auto usage = usage_.find(tenant);
  const double share_max = policy_->retry_share_max;
  if (usage == usage_.end() || usage->second.retries.AllowsRetry(share_max, now)) {
    return std::nullopt;
  }
  return QuotaError(
      Str("more than ", share_max * 100, " % of the requests of ", Named(tenant), " in the last ",
          kRetryWindowSeconds, " s are retries, and this is attempt ", terms.attempt,
          ": retry less often"),
      usage->second.retries.WaitMs(share_max, now));
}

std::optional<StreamError> Tenants::NoteAttempt(const RequestTerms& terms, TimeNs now) {
  if (!edge_limit_) return std::nullopt;
  RetryBudget& retries = UsageOf(terms.tenant, now).retries;
  if (terms.attempt <= 1) {
    retries.NoteFirst(now);
    return std::nullopt;
  }
  if (retries.TakeRetry(policy_->retry_share_max, now)) return std::nullopt;
  return FindRetryRefusal(terms, now);
}

std::optional<StreamError> Tenants::FindRefusal(const RequestTerms& terms) const {
  const TenantPolicy& policy = PolicyOf(terms.tenant);
  const auto usage = usage_.find(policy.name);
  const int64_t in_flight = usage == usage_.end() ? 0 : usage->second.held.requests;
  if (!edge_limit_ || policy.requests_in_flight_max == 0 ||
      in_flight < policy.requests_in_flight_max) {
    return std::nullopt;
  }
  return MakeStreamError(
      BusyReason::kQuotaExceeded,
      Str(Named(policy.name), " has ", in_flight, " requests in flight, its bound is ",
          policy.requests_in_flight_max, ": wait for one to end"));
}

std::variant<Grant, StreamError> Tenants::Charge(const RequestTerms& terms, int64_t tokens,
                                                 TimeNs now) {
  if (auto error = FindRefusal(terms)) return *std::move(error);
  const TenantPolicy& policy = PolicyOf(terms.tenant);
  Usage& usage = UsageOf(terms.tenant, now);
  if (edge_limit_ && usage.bucket && !usage.bucket->Take(tokens, now)) {
    const std::optional<int64_t> wait_ms = usage.bucket->WaitMs(tokens, now);
    if (!wait_ms) {
      return MakeStreamError(
          BusyReason::kTooLarge,
          Str("prompt and answer may need ", tokens, " tokens of work, and the quota of ",
              Named(policy.name), " is at most ", usage.bucket->burst_tokens(),
              " at once (burst_tokens): shorten the prompt, or ask for fewer tokens"));
    }
    return QuotaError(Str("the quota of ", Named(policy.name), " is ", policy.tokens_per_second,
                          " tokens of work a second, and this request may need ", tokens,
                          ": it has that many in ", *wait_ms, " ms"),
                      *wait_ms);
  }
  const bool is_bounded = edge_limit_ && usage.bucket.has_value();
  Grant grant = MakeGrant(policy.name, ClassOf(terms), is_bounded ? tokens : 0);
  ++usage.held.requests;
  usage.held.tokens += grant.tokens;
  return grant;
}

Grant Tenants::Adopt(const std::string& tenant, ServiceClass service_class) {
  Grant grant = MakeGrant(PolicyOf(tenant).name, service_class, 0);
  // Its bucket, should it be new, is full whatever the time.
  ++UsageOf(tenant, 0).held.requests;
  return grant;
}

Grant Tenants::MakeGrant(const std::string& tenant, ServiceClass service_class,
                         int64_t tokens) const {
  const TenantPolicy& policy = PolicyOf(tenant);
  return {.tenant = tenant,
          .service_class = service_class,
          .tokens = tokens,
          .weight = policy.weight,
          .floor_share = policy.floor_share};
}

void Tenants::End(const Grant& grant, int64_t tokens_used, TimeNs now) {
  const auto found = usage_.find(grant.tenant);
  SHOAL_CHECK(found != usage_.end() && found->second.held.requests > 0, "tenant '", grant.tenant,
              "' has nothing in flight");
  Usage& usage = found->second;
  --usage.held.requests;
  usage.held.tokens -= grant.tokens;
  const int64_t unused = grant.tokens - std::clamp<int64_t>(tokens_used, 0, grant.tokens);
  if (edge_limit_ && usage.bucket) usage.bucket->GiveBack(unused, now);
  const bool is_gone = !grant.tenant.empty() && Find(grant.tenant) == nullptr;
  if (is_gone && usage.held.requests == 0) usage_.erase(found);
}

std::map<std::string, Tenants::Held> Tenants::held() const {
  std::map<std::string, Held> all;
  for (const auto& [name, usage] : usage_) {
    if (usage.held.requests > 0) all.emplace(name, usage.held);
  }
  return all;
}

}  // namespace shoal::core
