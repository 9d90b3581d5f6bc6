#pragma once

// How important a request is when there is not room for all.

#include <cstdint>
#include <optional>
#include <string_view>

namespace shoal {

// The lower the value, the earlier it is served; what is sheddable is refused first. Names and
// meaning as in Google's "Handling Overload" (Site Reliability Engineering, chapter 21).
enum class ServiceClass : uint8_t { kCriticalPlus, kCritical, kSheddablePlus, kSheddable };
constexpr int kServiceClasses = 4;

// "critical_plus", "critical", "sheddable_plus", "sheddable".
std::string_view ToString(ServiceClass service_class);
// None for any other name.
std::optional<ServiceClass> ParseServiceClass(std::string_view name);

}  // namespace shoal
