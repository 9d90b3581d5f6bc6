#pragma once

// The order in which streams are served that wait for the same model.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/core/queue/floor.h"
#include "transport/base/class_queue.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// A stream that waits.
struct WaitingStream {
  StreamId stream{};
  uint64_t arrival = 0;  // Unique.
  std::string tenant{};
  ServiceClass service_class = ServiceClass::kCritical;
  double weight = 1;       // Its tenant's, above 0.
  double floor_share = 0;  // Likewise, in [0, 1).
  int64_t priority = 0;    // Among its tenant's requests of its class: the lower, the earlier.
  int64_t tokens = 0;      // Of work: prompt and answer at their longest.
  bool parked = false;     // It had a group before.
  bool retry = false;      // Not its client's first attempt.
};

struct FairRules {
  bool fair = true;  // Otherwise: first come, first served.
  std::array<double, kServiceClasses> floor_shares{};

  bool operator==(const FairRules&) const = default;
};

// Who comes in full a queue instead of whom.
struct Newcomer {
  const std::string& tenant;
  ServiceClass service_class = ServiceClass::kCritical;
  double weight = 1;
  bool retry = false;
};

// Order:     the better class first, except that one with a floor, or a tenant with one, is next
//            when its share is due (floor.h). In a class: what had a group before, then the tenants
//            in turns by deficit round robin over tokens of work (Shreedhar and Varghese, 1995),
//            each by its weight. Of a tenant: by priority, then first come, first served, as
//            ClassQueue.
// Fairness:  of two tenants of a class that wait all the time, what they are served differs from
//            the ratio of their weights by at most one request of each, and one turn.
// Rounds:    one in which nobody has saved up for its next request is not walked through, but
//            computed (Lane::due), so that no number of tenants makes a decision slow.
// Threading: one thread.
// Cost:      O(log n) each but Restore, which is that for each stream that was set aside.
class FairQueue {
 public:
  FairQueue();
  ~FairQueue();
  FairQueue(FairQueue&&) noexcept;

  void Configure(const FairRules& rules);
  void Add(WaitingStream stream);
  // It is served, whether or not it is its turn.
  void Serve(uint64_t arrival);
  // It waits no longer, and is not served. Result: false if it does not wait.
  bool Remove(uint64_t arrival);
  // Somebody was served so many tokens more than it turned out to use.
  void GiveBack(const std::string& tenant, ServiceClass service_class, int64_t tokens);

  // Whose turn it is among classes up to `worst`, of those that are not set aside; null: nobody's.
  const WaitingStream* Next(ServiceClass worst = ServiceClass::kSheddable) const;
  // Next passes it over until Restore. It must be what Next gave.
  void SetAside(uint64_t arrival);
  void Restore();

  // Who goes when the queue is full and that one comes: the newest of a worse class, the worst one
  // first and of one class retries first; or else of its own class a retry, if it is none, or the
  // newest of the tenant that has the most waiting for its weight. Only what had no group yet, and
  // none of a class that has no more than `kept` waiting. None: nobody is worse than that one.
  std::optional<StreamId> FindVictim(const Newcomer& newcomer,
                                     const std::array<size_t, kServiceClasses>& kept) const;

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  // Of those that had no group yet: only they count as a queue that may be full.
  size_t fresh(ServiceClass service_class) const;
  size_t fresh() const;
  // All that wait, by their size and arrival.
  const std::set<std::pair<int64_t, uint64_t>>& by_size() const { return by_size_; }
  const WaitingStream& at(uint64_t arrival) const;
  // Tenants and streams that it has looked at since the start: what its decisions cost.
  int64_t looks() const { return looks_; }

 private:
  struct Tenant;
  struct Lane;  // Of one tenant in one class.
  struct Entry;
  // By round, then by the order in which they began to wait.
  using Ring = std::set<std::tuple<int64_t, uint64_t, Lane*>>;
  // What differs by class.
  struct ClassState {
    Ring ring{};                                  // Of lanes that have somebody to serve.
    int64_t round = 0;                            // Of the last turn.
    std::set<Turn> parked{};                      // In order; those set aside are not here.
    std::set<std::pair<bool, uint64_t>> fresh{};  // Whether it is a retry, and its arrival.
    std::set<std::tuple<double, uint64_t, Lane*>> longest{};  // By requests for a weight of 1.
    // Of tenants with a floor whose best class this is: when they are due.
    std::set<std::tuple<int64_t, uint64_t, Tenant*>> due{};
    size_t count = 0;
    Floor floor{};
  };

  ClassState& StateOf(const Lane& lane);
  const WaitingStream* HeadOf(const Lane& lane) const;
  const WaitingStream* HeadOf(const ClassState& state) const;
  const WaitingStream* HeadOf(const Tenant& tenant) const;
  const WaitingStream* FindDue(size_t classes) const;
  // Takes a lane out of every order that depends on who is its head, and puts it back where it
  // belongs: around each change of it.
  void Leave(Lane& lane);
  void Enter(Lane& lane);
  Lane& LaneOf(const WaitingStream& stream);
  void Charge(Lane& lane, const Entry& entry, bool in_turn);
  // Takes it out of all; its lane, which has been left, is entered again or dropped.
  void Forget(uint64_t arrival);

  FairRules rules_;
  std::map<uint64_t, std::unique_ptr<Entry>> entries_;  // By arrival.
  std::set<std::pair<int64_t, uint64_t>> by_size_;
  std::array<ClassState, kServiceClasses> classes_;
  std::map<std::string, std::unique_ptr<Tenant>> tenants_;  // Those that wait.
  std::set<uint64_t> aside_;                                // Arrivals of those that are parked.
  std::set<Lane*> passed_;  // Those of whom something else is set aside.
  int64_t served_ = 0;      // Tokens of work.
  uint64_t last_place_ = 0;
  mutable int64_t looks_ = 0;
};

}  // namespace shoal::core
