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
  bool is_operator = false;                              // It has shown the group token.

  // Whether it may know of everybody's requests: an operator may, and everybody where no key is
  // asked for.
  bool sees_all() const { return is_operator || (owner.empty() && tenant.empty()); }
  // RecordQuery::tenant: of whose requests it may know. None: of everybody's.
  std::optional<std::string> seen_tenant() const {
    return sees_all() ? std::nullopt : std::optional(tenant);
  }

  bool operator==(const Caller&) const = default;
};

// Whose key that is; none if it is nobody's. The time that it takes says nothing of the keys.
using FindCaller = std::function<std::optional<Caller>(std::string_view api_key)>;

}  // namespace shoal::rpc
