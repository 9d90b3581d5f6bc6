#pragma once

// When a request was last refused because there was no room for it.

#include <array>
#include <cstdint>
#include <map>
#include <optional>

#include "coordinator/core/groups/model.h"
#include "transport/base/clock.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// So long after a request was refused no worse one takes a place of its model that it would have
// got, were it there: as long as it was told to stay away.
constexpr TimeNs kRefusalWindowNs = kSecondNs;

// Of the models that requests are admitted for. Threading: none; owned by Region.
class CapacityRefusals {
 public:
  void Note(const ModelKey& key, ServiceClass service_class, TimeNs now) {
    std::erase_if(last_, [&](const auto& entry) { return !IsRecent(entry.second, now); });
    last_[{key, service_class}] = now;
  }

  // The best class better than that one of which a request was refused a moment ago.
  std::optional<ServiceClass> FindBetter(const ModelKey& key, ServiceClass service_class,
                                         TimeNs now) const {
    const auto last = last_.lower_bound({key, ServiceClass::kCriticalPlus});
    for (auto entry = last; entry != last_.end() && entry->first.first == key; ++entry) {
      if (entry->first.second >= service_class) break;
      if (IsRecent(entry->second, now)) return entry->first.second;
    }
    return std::nullopt;
  }

 private:
  static bool IsRecent(TimeNs then, TimeNs now) { return now - then < kRefusalWindowNs; }

  std::map<std::pair<ModelKey, ServiceClass>, TimeNs> last_;
};

}  // namespace shoal::core
