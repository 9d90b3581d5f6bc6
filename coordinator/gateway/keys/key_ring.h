#pragma once

// Which API key is whose.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
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
  // `default_keys`: of the default tenant. `policy`: null if there are no others.
  // Errors: as Configure.
  KeyRing(std::vector<std::string> default_keys, std::shared_ptr<const core::TenantsPolicy> policy);

  // From now on tenants have those keys; one that the default tenant has too is the named tenant's.
  // A connection to the RPC port that was let in before stays. Where keys were asked for once they
  // are from then on. Errors: kInvalidArgument, naming both, if two tenants have one key; then all
  // is as before.
  void Configure(std::shared_ptr<const core::TenantsPolicy> policy);

  // Whether a key is needed.
  bool asks() const { return asks_; }
  // Where none is needed, everybody is the default tenant. None: the key is nobody's.
  std::optional<rpc::Caller> Find(std::string_view api_key) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  // Of the default tenant, or of policy_->tenants.
  static constexpr size_t kDefault = SIZE_MAX;

  Digest DigestOf(std::string_view api_key) const;

  const Digest secret_;
  const std::vector<std::string> default_keys_;
  std::shared_ptr<const core::TenantsPolicy> policy_;
  std::map<Digest, size_t> owners_;
  bool asks_ = false;
};

}  // namespace shoal::gateway
