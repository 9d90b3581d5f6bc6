#include "tests/coordinator/core/net_sim/net/overload.h"

#include <algorithm>
#include <iterator>

namespace shoal::core::net_sim {

namespace {

constexpr const char* kTenants[] = {"ant", "bee", "cow"};
constexpr int64_t kRoutings = static_cast<int64_t>(RoutingPolicy::kPrefixAware) + 1;

// Whole numbers, so that the ledger of the checker can be exact.
void DrawQuota(Chance& chance, TenantPolicy& tenant) {
  tenant.tokens_per_second = static_cast<double>(chance.Draw(20, 300));
  tenant.burst_tokens = static_cast<double>(chance.OneIn(4) ? 0 : chance.Draw(50, 400));
}

TenantPolicy DrawTenant(Chance& chance, std::string name) {
  TenantPolicy tenant{.name = std::move(name)};
  tenant.service_class = static_cast<ServiceClass>(chance.Draw(0, kServiceClasses - 1));
  tenant.weight = static_cast<double>(chance.Draw(1, 8)) / 2;
  if (chance.OneIn(2)) DrawQuota(chance, tenant);
  tenant.requests_in_flight_max = static_cast<int32_t>(chance.OneIn(3) ? chance.Draw(1, 6) : 0);
  tenant.floor_share = chance.OneIn(4) ? 0.25 : 0;
  return tenant;
}

BreakerRule DrawRule(Chance& chance) {
  BreakerRule rule{.metric = chance.OneIn(2) ? "queue_length" : "error_rate"};
  rule.threshold =
      static_cast<double>(rule.metric == "queue_length" ? chance.Draw(1, 5) : chance.Draw(5, 60));
  rule.recovery = rule.threshold / 2;
  rule.duration_ms = chance.Draw(0, 1'000);
  rule.recovery_ms = chance.Draw(500, 4'000);
  rule.half_open_ms = chance.Draw(0, 2'000);
  rule.action = static_cast<BreakerRule::Action>(chance.Draw(0, 2));
  return rule;
}

}  // namespace

void Overload::Draw(Chance& chance, int64_t chaos_ms) {
  tenants = chance.OneIn(2);
  if (tenants) {
    for (const char* name : kTenants) policy.tenants.push_back(DrawTenant(chance, name));
    for (ClassPolicy& of : policy.classes) of.floor_share = chance.OneIn(4) ? 0.3 : 0;
    policy.retry_share_max = chance.OneIn(2) ? 0.2 : 0.5;
    if (chance.OneIn(5)) policy.shape_tokens_per_second = static_cast<double>(chance.Draw(50, 500));
    if (chance.OneIn(2)) reload_every_ms = chance.Draw(500, 4'000);
  }
  if (chance.OneIn(2)) hurried = static_cast<double>(chance.Draw(1, 4)) / 4;
  if (chance.OneIn(3)) alike = static_cast<double>(chance.Draw(1, 3)) / 4;
  reports = chance.OneIn(2);
  if (chance.OneIn(3)) guard.breakers.push_back(DrawRule(chance));
  OutlierRules& outliers = guard.outliers;
  outliers.errors_max = static_cast<int32_t>(chance.Draw(2, 5));
  outliers.interval_ms = chance.Draw(1'000, 10'000);
  outliers.ejection_ms = chance.Draw(300, 3'000);
  outliers.slow_start_ms = chance.Draw(0, 3'000);
  if (chance.OneIn(4)) outliers.slow_factor = 0;
  if (chance.OneIn(3)) routing = static_cast<RoutingPolicy>(chance.Draw(0, kRoutings - 1));
  if (!chance.OneIn(3)) return;
  angry = chance.Draw(3, 10);
  storm_from_ms = chance.Draw(1'000, chaos_ms / 2);
  storm_until_ms = std::min(chaos_ms, storm_from_ms + chance.Draw(1'000, 4'000));
}

void Overload::Favour(Chance& chance) {
  reports = true;
  guard.outliers.slow_factor = 3;
  guard.outliers.errors_max = 2;
  if (guard.breakers.empty()) guard.breakers.push_back(DrawRule(chance));
  for (TenantPolicy& tenant : policy.tenants) {
    if (tenant.tokens_per_second == 0) DrawQuota(chance, tenant);
    tenant.requests_in_flight_max = static_cast<int32_t>(chance.Draw(0, 6));
  }
  if (tenants) reload_every_ms = chance.Draw(300, 1'000);
}

TenantsPolicy Overload::DrawReloaded(Chance& chance) const {
  TenantsPolicy reloaded = policy;
  for (TenantPolicy& tenant : reloaded.tenants) {
    tenant.weight = static_cast<double>(chance.Draw(1, 8)) / 2;
    // Who has no bound still has none.
    if (tenant.tokens_per_second > 0 && chance.OneIn(2)) DrawQuota(chance, tenant);
  }
  return reloaded;
}

RequestTerms Overload::DrawTerms(Chance& chance) const {
  RequestTerms terms;
  if (tenants && !chance.OneIn(4))
    terms.tenant = kTenants[chance.Draw(0, std::ssize(kTenants) - 1)];
  if (tenants && chance.OneIn(3)) {
    terms.service_class = static_cast<ServiceClass>(chance.Draw(0, kServiceClasses - 1));
  }
  if (chance.Roll(hurried)) terms.deadline_ms = chance.Draw(50, chance.OneIn(2) ? 1'000 : 10'000);
  return terms;
}

const TenantPolicy& PolicyOf(const TenantsPolicy& policy, const std::string& tenant) {
  const auto found = std::ranges::find(policy.tenants, tenant, &TenantPolicy::name);
  return found == policy.tenants.end() ? policy.defaults : *found;
}

ServiceClass ClassOf(const TenantsPolicy& policy, const RequestTerms& terms) {
  const ServiceClass own = PolicyOf(policy, terms.tenant).service_class;
  return std::max(own, terms.service_class.value_or(own));
}

}  // namespace shoal::core::net_sim
