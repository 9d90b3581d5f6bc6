#pragma once

// What must hold where there is more to do than can be done, seen from outside.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/promise/breaker_checker.h"
#include "tests/coordinator/core/net_sim/promise/ledger.h"

namespace shoal::core::net_sim {

class Clients;
struct ClientStream;

class OverloadChecker {
 public:
  // It outlives it.
  explicit OverloadChecker(Context& context)
      : context_(context), policy_(context.swarm.overload.policy), breaker_(context) {}

  // ---- What happens to a region, each before the next one.
  void NewRegion();
  void Reloaded(const TenantsPolicy& policy);
  // A request comes, and this came of it. `asked` has what it asks for; its id is of no account.
  // `before_its_size`: its terms alone decide, whichever model it is for.
  void Asks(const ClientStream& asked, bool before_its_size, const Region& region);
  void Refused(const ClientStream& asked, bool before_its_size, const StreamError& error);
  // Nothing stands against its terms.
  void Passed(const ClientStream& asked);
  // `joins`: it gets the answer of another one.
  void Taken(StreamId id, const ClientStream& asked, bool joins);
  // From another coordinator, with so long to its deadline; 0: it has none.
  void Adopted(StreamId id, const std::string& tenant, int64_t deadline_ms);
  // A group is given it. For the first time with that sequence, if it is not given `again`.
  void Submitted(const SequenceRequest& request, const ClientStream& stream, bool again,
                 const Clients& clients);
  // `replayed`: all of it was there before.
  void Delivered(StreamId id, bool replayed);
  // One who waited gave its place to a better one.
  void Displaced(const ClientStream& stream, bool sure);
  // Whoever listened hears nothing more.
  void Over(StreamId id) { deadlines_.erase(id); }
  // The stream has ended, and its tenant has used so much. Whoever listens hears of it next.
  void Ended(StreamId id, bool has_listener, int64_t used);

  // After every event.
  void Check(const Region& region, const Clients& clients);
  // What may be said about the reasons that are of overload; none: it is none of them.
  std::string FindNoReason(const ClientStream& stream, const StreamError& error) const;
  const TenantsPolicy& policy() const { return policy_; }
  BreakerChecker& breaker() { return breaker_; }
  // Whether its time may be over for the region, which may know of it by another clock.
  bool MayBeOverdue(StreamId id) const;

 private:
  using ByClass = std::array<size_t, kServiceClasses>;
  struct Refusal {
    TimeNs of_key = -kSecondNs;  // The last that is known to be of that key,
    TimeNs of_any = -kSecondNs;  // and the last that may be.
  };

  size_t KeptFor(ServiceClass service_class) const;
  // Whether a better class was refused a moment ago.
  bool WasBetterRefused(const ModelKey& key, ServiceClass service_class, bool sure) const;
  // What is wrong with what a group is told of its deadline; empty if nothing is.
  std::string FindDeadlineFault(const SequenceRequest& request, const ClientStream& stream,
                                const Clients& clients) const;
  std::string FindRoom(const ModelKey& key, ServiceClass service_class) const;
  void NoteFull(const ModelKey& key, ServiceClass service_class, bool sure);
  void CheckHeld(const Region& region, const Clients& clients);
  void CheckOverdue(const Clients& clients);
  std::optional<TimeNs> FindDeadline(StreamId id) const;

  Context& context_;
  TenantsPolicy policy_;
  Ledger ledger_;
  BreakerChecker breaker_;
  std::map<StreamId, TimeNs> deadlines_;        // Of whoever listens, or might.
  std::map<StreamId, TimeNs> first_deadlines_;  // For whichever coordinator took it last.
  std::set<StreamId> adopted_;                  // Whose deadline was told by a leader.
  std::map<ModelKey, ByClass> fresh_;  // That wait and have had no group, before the last request.
  std::map<ModelKey, std::array<Refusal, kServiceClasses>> refusals_;
  std::map<std::string, int64_t> in_flight_;
};

}  // namespace shoal::core::net_sim
