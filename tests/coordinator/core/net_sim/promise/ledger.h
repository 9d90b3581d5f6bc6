#pragma once

// What each tenant may use and has used, kept by whoever watches a region from outside.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "coordinator/core/tenants/tenant_policy.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core::net_sim {

// Shares no code with what it watches. Rates and bursts are whole numbers, so it is exact, too:
// what it says must be taken is taken, and what it says must be refused is refused.
class Ledger {
 public:
  // A coordinator starts, with that policy: quotas are full, and nothing is in flight.
  void NewRegion(const TenantsPolicy& policy, TimeNs now);
  // Of the same tenants, with bounds where there were bounds.
  void Reload(const TenantsPolicy& policy, TimeNs now);

  // A request was tried, and that came of it. Result: what is wrong with it; empty if nothing is.
  // `cost`: none before it is known. `in_flight`: of its tenant, before it.
  std::string NoteRefused(const RequestTerms& terms, std::optional<int64_t> cost, int64_t in_flight,
                          const StreamError& error, TimeNs now);
  // It was let pass so far, and is not counted yet.
  std::string NotePassed(const RequestTerms& terms, TimeNs now);
  // As stream `id`, or for `joins` as one who shares another one's answer.
  std::string NoteTaken(StreamId id, bool joins, const RequestTerms& terms, int64_t cost,
                        int64_t in_flight, TimeNs now);
  // A stream of that tenant came from another coordinator.
  void NoteAdopted(const std::string& tenant) { accounts_[tenant].is_new = false; }
  // It has ended here, and used so many tokens. One that was not taken here was not charged.
  void End(StreamId id, int64_t used, TimeNs now);

  // What of the tenant's quota is held by streams that have not ended, but for those who share.
  int64_t Held(const std::string& tenant) const;
  // Whether work is counted against a bound.
  bool IsBounded(const std::string& tenant) const;

 private:
  struct Account {
    int64_t rate = 0;   // Tokens a second. 0: no bound.
    int64_t burst = 0;  // Tokens.
    int64_t level = 0;  // Of the quota, in tokens x 1e-9.
    TimeNs time = 0;    // At which it was that.
    // Of all coordinators, in tokens x 1e-9: what was admitted and not given back, and what that
    // may be at most.
    int64_t taken = 0;
    int64_t allowed = 0;
    bool is_new = true;                              // It has asked nothing of this coordinator.
    std::deque<std::pair<TimeNs, bool>> attempts{};  // Whether it was a retry.
  };
  struct Charge {
    std::string tenant;
    int64_t tokens = 0;
  };

  Account& At(const std::string& tenant, TimeNs now);
  void Configure(Account& account, const TenantPolicy& tenant);
  void Fill(Account& account);
  // Whether one more attempt is within the budget; NoteAttempt counts it if so.
  bool AllowsAttempt(const RequestTerms& terms, TimeNs now);
  bool NoteAttempt(const RequestTerms& terms, TimeNs now);
  // Why the quota would not allow it; empty if it would.
  std::string FindLack(const RequestTerms& terms, int64_t cost, int64_t in_flight, TimeNs now);

  TenantsPolicy policy_;
  std::map<std::string, Account> accounts_;
  std::map<StreamId, Charge> charges_;
};

}  // namespace shoal::core::net_sim
