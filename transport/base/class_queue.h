#pragma once

// The order in which waiting requests are served: by rank, in a rank first come first served, with
// a floor for those that others keep passing.

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
  int64_t rank = 0;  // Of its service class, or its priority: whatever its owner orders by.
  uint64_t arrival = 0;

  auto operator<=>(const Turn&) const = default;
};

// A request that later ones have passed over so often comes next, whatever its rank: while nobody
// is demoted, the lowest gets at least one turn in nine.
constexpr int32_t kPassedOverMax = 8;

// The rank of promoted requests: before all others, until they are demoted.
constexpr int64_t kPromotedRank = std::numeric_limits<int64_t>::min();

// Order:     lower ranks first; of one rank, the lower arrival first.
// Fairness:  a request that is served passes over those that came before it; the first to arrive
//            counts it, and is promoted at kPassedOverMax. Only its own service, or Demote, ends a
//            count, and nobody later counts before it: so one that is not demoted is next after at
//            most kPassedOverMax turns for itself and as many for each that came before it. How
//            often it demotes is for its owner to bound.
// Threading: one thread.
// Cost:      O(log n) each.
template <typename Item>
class ClassQueue {
 public:
  // Arrivals are unique.
  void Add(const Turn& turn, Item item) {
    const bool added = entries_.try_emplace(turn.arrival, Entry{turn.rank, std::move(item)}).second;
    SHOAL_CHECK(added, "arrival ", turn.arrival, " waits already");
    turns_.insert(turn);
    if (turn.rank != kPromotedRank) ordinary_.insert(turn.arrival);
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
    int64_t& rank = entries_.at(arrival).rank;
    turns_.erase({rank, arrival});
    rank = kPromotedRank;
    turns_.insert({rank, arrival});
    ordinary_.erase(arrival);
  }

  // One that was promoted is of that rank again, and counts from the start. It must wait.
  void Demote(uint64_t arrival, int64_t rank) {
    Entry& entry = entries_.at(arrival);
    turns_.erase({entry.rank, arrival});
    entry.rank = rank;
    entry.passed_over = 0;
    turns_.insert({rank, arrival});
    ordinary_.insert(arrival);
  }

  // Takes a request out that is not to be served. Result: false if it does not wait.
  bool Remove(uint64_t arrival) {
    const auto entry = entries_.find(arrival);
    if (entry == entries_.end()) return false;
    turns_.erase({entry->second.rank, arrival});
    ordinary_.erase(arrival);
    entries_.erase(entry);
    return true;
  }

 private:
  struct Entry {
    int64_t rank;
    Item item;
    int32_t passed_over = 0;  // Times that others were served before it, as the first to arrive.
  };

  std::map<uint64_t, Entry> entries_;  // By arrival.
  std::set<Turn> turns_;
  std::set<uint64_t> ordinary_;  // Arrivals of those that were not promoted.
};

}  // namespace shoal
