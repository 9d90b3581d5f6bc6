#pragma once

// Who is at the other end of a request, by the API key that was shown.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "transport/base/overload/service_class.h"

namespace shoal::rpc {

struct Caller {
  std::string tenant{};  // Empty: the default one.
  // Who may go on with its answers: the tenant, or whoever has that key of the default one. Empty
  // where no key is asked for.
  std::string owner{};
  ServiceClass service_class = ServiceClass::kCritical;  // The best that its requests may have.

  bool operator==(const Caller&) const = default;
};

// Whose key that is; none if it is nobody's. The time that it takes says nothing of the keys.
using FindCaller = std::function<std::optional<Caller>(std::string_view api_key)>;

}  // namespace shoal::rpc
