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

// Whose turn it is: the lower one's.
struct Turn {
  int64_t service_class = 0;
  uint64_t arrival = 0;

  auto operator<=>(const Turn&) const = default;
};

// After so many others were served before the request that came first, it is next, whatever its
// class: the lowest class gets at least one turn in nine.
constexpr int32_t kPassedOverMax = 8;

// The class of those that the floor has helped: before all others, for good.
constexpr int64_t kPromotedClass = std::numeric_limits<int64_t>::min();

// Order:     lower service classes first; of one class, the lower arrival first.
// Threading: one thread.
// Cost:      O(log n) each.
template <typename Item>
class ClassQueue {
 public:
  // Arrivals are unique.
  void Add(const Turn& turn, Item item) {
    const bool added =
        entries_.try_emplace(turn.arrival, turn.service_class, std::move(item)).second;
    SHOAL_CHECK(added, "arrival ", turn.arrival, " waits already");
    turns_.insert(turn);
  }

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }

  // There must be one.
  const Turn& front_turn() const { return *turns_.begin(); }
  const Item& front() const { return entries_.at(front_turn().arrival).second; }

  // In order of service.
  const std::set<Turn>& turns() const { return turns_; }
  const Item& at(const Turn& turn) const { return entries_.at(turn.arrival).second; }

  // Removes what is served now, which need not be the front: it may be the only one that fits.
  void Serve(const Turn& turn) {
    Remove(turn.arrival);
    if (entries_.empty() || entries_.begin()->first > turn.arrival) {
      passed_over_ = 0;
    } else if (++passed_over_ >= kPassedOverMax) {
      passed_over_ = 0;
      Promote(entries_.begin()->first);
    }
  }

  // Nobody serves it. Result: false if it does not wait.
  bool Remove(uint64_t arrival) {
    const auto entry = entries_.find(arrival);
    if (entry == entries_.end()) return false;
    turns_.erase({entry->second.first, arrival});
    entries_.erase(entry);
    return true;
  }

  void Clear() {
    entries_.clear();
    turns_.clear();
    passed_over_ = 0;
  }

 private:
  void Promote(uint64_t arrival) {
    int64_t& service_class = entries_.at(arrival).first;
    turns_.erase({service_class, arrival});
    service_class = kPromotedClass;
    turns_.insert({service_class, arrival});
  }

  std::map<uint64_t, std::pair<int64_t, Item>> entries_;  // Class and item, by arrival.
  std::set<Turn> turns_;
  int32_t passed_over_ = 0;  // Times in a row that others were served before the first arrival.
};

}  // namespace shoal
