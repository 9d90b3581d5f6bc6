#pragma once

// Which API key is whose.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/tenants/tenant_policy.h"
#include "transport/rpc/caller.h"

namespace shoal::gateway {

// Keys are looked up by their HMAC-SHA-256 under a secret of this process: how long it takes tells
// a caller nothing that it could use, and does not grow with the number of keys.
// Threading: none; owned by the event loop of both doors.
class KeyRing {
 public:
  // `default_keys`: of the default tenant. `policy`: null if there are no others. `operator_key`:
  // the group token; whoever shows it as its API key is an operator. Empty: nobody is.
  // Errors: as Prepare.
  KeyRing(std::vector<std::string> default_keys, std::shared_ptr<const core::TenantsPolicy> policy,
          std::string operator_key = "");

  // A policy's keys, looked up by what they come to.
  class Index;
  using Preparation =
      std::function<std::shared_ptr<const Index>(std::shared_ptr<const core::TenantsPolicy>)>;
  // Makes an index of a policy, which takes a microsecond a key, on any thread, also when the ring
  // is gone. Errors: kInvalidArgument, naming them, if two tenants have one key, or one of them the
  // operator's.
  Preparation preparation() const;
  // From now on tenants have those keys; one that the default tenant has too is the named tenant's.
  // Where keys were asked for once they are from then on.
  void Configure(std::shared_ptr<const Index> index);

  // Whether a key is needed.
  bool asks() const { return asks_; }
  // Where none is needed, everybody is the default tenant. None: the key is nobody's.
  std::optional<rpc::Caller> Find(std::string_view api_key) const;

 private:
  std::shared_ptr<const Index> index_;
  const Preparation preparation_;
  bool asks_ = false;
};

}  // namespace shoal::gateway
