#include "transport/base/overload/service_class.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace shoal {
namespace {

constexpr std::array<std::string_view, kServiceClasses> kNames = {"critical_plus", "critical",
                                                                  "sheddable_plus", "sheddable"};

}  // namespace

std::string_view ToString(ServiceClass service_class) {
  return kNames.at(static_cast<size_t>(service_class));
}

std::optional<ServiceClass> ParseServiceClass(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<ServiceClass>(found - kNames.begin());
}

}  // namespace shoal
