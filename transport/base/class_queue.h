#pragma once

// The order in which waiting requests are served: by class, in a class first come first served,
// with a floor for those that others keep passing.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "transport/base/check.h"

namespace shoal {

// A request's place in the order of service; the lower one comes first.
struct Turn {
  int64_t service_class = 0;
  uint64_t arrival = 0;

  auto operator<=>(const Turn&) const = default;
};

// A request that later ones have passed over so often comes next, whatever its class: the lowest
// class gets at least one turn in nine.
constexpr int32_t kPassedOverMax = 8;

// The class of promoted requests: before all others, for good.
constexpr int64_t kPromotedClass = std::numeric_limits<int64_t>::min();

// Order:     lower service classes first; of one class, the lower arrival first.
// Fairness:  a request that is served passes over those that came before it; the first to arrive
//            counts it, and is promoted at kPassedOverMax. Only its own service ends a count, and
//            nobody later counts before it, so it is next after at most kPassedOverMax turns for
//            itself and as many for each that came before it.
// Threading: one thread.
// Cost:      O(log n) each.
template <typename Item>
class ClassQueue {
 public:
  // Arrivals are unique.
  void Add(const Turn& turn, Item item) {
    const bool added =
        entries_.try_emplace(turn.arrival, Entry{turn.service_class, std::move(item)}).second;
    SHOAL_CHECK(added, "arrival ", turn.arrival, " waits already");
    turns_.insert(turn);
    if (turn.service_class != kPromotedClass) ordinary_.insert(turn.arrival);
  }

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }

  // There must be one.
  const Turn& front_turn() const { return *turns_.begin(); }
  const Item& front() const { return entries_.at(front_turn().arrival).item; }

  // The last one to arrive.
  uint64_t newest() const { return entries_.rbegin()->first; }

  // In order of service.
  const std::set<Turn>& turns() const { return turns_; }
  const Item& at(const Turn& turn) const { return entries_.at(turn.arrival).item; }

  // Removes what is served now, which need not be the front: it may be the only one that fits.
  void Serve(const Turn& turn) {
    Remove(turn.arrival);
    if (ordinary_.empty() || *ordinary_.begin() > turn.arrival) return;
    const uint64_t first = *ordinary_.begin();
    if (++entries_.at(first).passed_over >= kPassedOverMax) Promote(first);
  }

  // From now on it comes before all that were not promoted, or arrived later. It must wait.
  void Promote(uint64_t arrival) {
    int64_t& service_class = entries_.at(arrival).service_class;
    turns_.erase({service_class, arrival});
    service_class = kPromotedClass;
    turns_.insert({service_class, arrival});
    ordinary_.erase(arrival);
  }

  // One that was promoted is of that class again, and counts from the start. It must wait.
  void Demote(uint64_t arrival, int64_t service_class) {
    Entry& entry = entries_.at(arrival);
    turns_.erase({entry.service_class, arrival});
    entry.service_class = service_class;
    entry.passed_over = 0;
    turns_.insert({service_class, arrival});
    ordinary_.insert(arrival);
  }

  // Takes a request out that is not to be served. Result: false if it does not wait.
  bool Remove(uint64_t arrival) {
    const auto entry = entries_.find(arrival);
    if (entry == entries_.end()) return false;
    turns_.erase({entry->second.service_class, arrival});
    ordinary_.erase(arrival);
    entries_.erase(entry);
    return true;
  }

  void Clear() {
    entries_.clear();
    turns_.clear();
    ordinary_.clear();
  }

 private:
  struct Entry {
    int64_t service_class;
    Item item;
    int32_t passed_over = 0;  // Times that others were served before it, as the first to arrive.
  };

  std::map<uint64_t, Entry> entries_;  // By arrival.
  std::set<Turn> turns_;
  std::set<uint64_t> ordinary_;  // Arrivals of those that were not promoted.
};

}  // namespace shoal
