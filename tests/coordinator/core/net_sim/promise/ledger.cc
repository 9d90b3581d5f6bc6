#include "tests/coordinator/core/net_sim/promise/ledger.h"

#include <algorithm>

#include "tests/coordinator/core/net_sim/net/overload.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// As promised to whoever reads about tenants.
constexpr int64_t kRetryWindowS = 10;
constexpr int64_t kRetriesAlways = 10;
constexpr int64_t kJoiningCosts = 1;

}  // namespace

void Ledger::Configure(Account& account, const TenantPolicy& tenant) {
  account.rate = static_cast<int64_t>(tenant.tokens_per_second);
  account.burst = static_cast<int64_t>(tenant.burst_tokens);
  if (account.burst == 0) account.burst = account.rate;
}

void Ledger::NewRegion(const TenantsPolicy& policy, TimeNs now) {
  policy_ = policy;
  charges_.clear();
  const auto begin = [&](const TenantPolicy& tenant) {
    Account& account = At(tenant.name, now);
    Configure(account, tenant);
    account.level = 0;
    Fill(account);
    account.attempts.clear();
    account.is_new = true;
  };
  begin(policy.defaults);
  for (const TenantPolicy& tenant : policy.tenants) begin(tenant);
}

void Ledger::Reload(const TenantsPolicy& policy, TimeNs now) {
  policy_ = policy;
  for (const TenantPolicy& tenant : policy.tenants) {
    Account& account = At(tenant.name, now);
    Configure(account, tenant);
    account.level = std::min(account.level, account.burst * kSecondNs);
    // A quota is full until it is first used.
    if (account.is_new) Fill(account);
  }
}

void Ledger::Fill(Account& account) {
  account.allowed += account.burst * kSecondNs - account.level;
  account.level = account.burst * kSecondNs;
}

Ledger::Account& Ledger::At(const std::string& tenant, TimeNs now) {
  Account& account = accounts_[tenant];
  const int64_t earned = account.rate * (now - account.time);
  if (account.time > 0) account.allowed += earned;
  account.level = std::min(account.burst * kSecondNs, account.level + earned);
  account.time = now;
  return account;
}

bool Ledger::IsBounded(const std::string& tenant) const {
  return PolicyOf(policy_, tenant).tokens_per_second > 0;
}

bool Ledger::AllowsAttempt(const RequestTerms& terms, TimeNs now) {
  auto& attempts = accounts_[terms.tenant].attempts;
  while (!attempts.empty() &&
         attempts.front().first / kSecondNs <= now / kSecondNs - kRetryWindowS) {
    attempts.pop_front();
  }
  if (terms.attempt <= 1) return true;
  const auto retries = std::ranges::count(attempts, true, &std::pair<TimeNs, bool>::second) + 1;
  const auto all = static_cast<double>(attempts.size() + 1);
  return retries <= kRetriesAlways || static_cast<double>(retries) <= policy_.retry_share_max * all;
}

bool Ledger::NoteAttempt(const RequestTerms& terms, TimeNs now) {
  accounts_[terms.tenant].is_new = false;
  if (!AllowsAttempt(terms, now)) return false;
  accounts_[terms.tenant].attempts.emplace_back(now, terms.attempt > 1);
  return true;
}

std::string Ledger::FindLack(const RequestTerms& terms, int64_t cost, int64_t in_flight,
                             TimeNs now) {
  const int32_t in_flight_max = PolicyOf(policy_, terms.tenant).requests_in_flight_max;
  if (in_flight_max > 0 && in_flight >= in_flight_max) {
    return Str(in_flight, " requests are in flight, of ", in_flight_max);
  }
  const Account& account = At(terms.tenant, now);
  if (account.rate == 0 || account.level >= cost * kSecondNs) return "";
  return Str("its quota holds ", account.level / kSecondNs, " of ", cost, " tokens");
}

std::string Ledger::NotePassed(const RequestTerms& terms, TimeNs now) {
  return AllowsAttempt(terms, now) ? ""
                                   : Str("attempt ", terms.attempt, " of tenant '", terms.tenant,
                                         "' is let pass, and is one retry too many");
}

std::string Ledger::NoteRefused(const RequestTerms& terms, std::optional<int64_t> cost,
                                int64_t in_flight, const StreamError& error, TimeNs now) {
  const bool is_of_quota = error.reason == BusyReason::kQuotaExceeded;
  if (!NoteAttempt(terms, now)) {
    return is_of_quota ? ""
                       : Str("attempt ", terms.attempt, " of tenant '", terms.tenant,
                             "' is one retry too many, and is refused for another reason");
  }
  if (error.reason == BusyReason::kTooLarge && cost &&
      error.message.find("burst_tokens") != std::string::npos) {
    const int64_t burst = At(terms.tenant, now).burst;
    return *cost > burst ? "" : Str("it costs ", *cost, " tokens of a burst of ", burst);
  }
  if (!is_of_quota) return "";
  // Before its cost is known the bound in flight alone may be the reason.
  if (FindLack(terms, cost.value_or(0), in_flight, now).empty()) {
    return Str("tenant '", terms.tenant, "' has ", in_flight, " requests in flight, and its quota ",
               At(terms.tenant, now).level / kSecondNs, " tokens");
  }
  return "";
}

std::string Ledger::NoteTaken(StreamId id, bool joins, const RequestTerms& terms, int64_t cost,
                              int64_t in_flight, TimeNs now) {
  if (!NoteAttempt(terms, now)) {
    return Str("attempt ", terms.attempt, " of tenant '", terms.tenant,
               "' is taken, and is one retry too many");
  }
  const int64_t tokens = joins ? kJoiningCosts : cost;
  const std::string lack = FindLack(terms, tokens, in_flight, now);
  if (!lack.empty()) return Str("a request of tenant '", terms.tenant, "' is taken, and ", lack);
  Account& account = At(terms.tenant, now);
  if (!joins) charges_[id] = {terms.tenant, account.rate > 0 ? tokens : 0};
  if (account.rate == 0) return "";
  account.level -= tokens * kSecondNs;
  account.taken += tokens * kSecondNs;
  if (account.taken <= account.allowed) return "";
  return Str("tenant '", terms.tenant, "' was admitted ", account.taken / kSecondNs,
             " tokens in all, at most ", account.allowed / kSecondNs, " may be");
}

void Ledger::End(StreamId id, int64_t used, TimeNs now) {
  auto charge = charges_.extract(id);
  if (charge.empty()) return;
  Account& account = At(charge.mapped().tenant, now);
  if (account.rate == 0) return;
  const int64_t unused = (charge.mapped().tokens - used) * kSecondNs;
  if (unused <= 0) return;
  account.level = std::min(account.burst * kSecondNs, account.level + unused);
  account.taken -= unused;
}

int64_t Ledger::Held(const std::string& tenant) const {
  int64_t tokens = 0;
  for (const auto& [id, charge] : charges_) {
    if (charge.tenant == tenant) tokens += charge.tokens;
  }
  return tokens;
}

}  // namespace shoal::core::net_sim
