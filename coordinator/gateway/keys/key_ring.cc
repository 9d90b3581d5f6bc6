#include "coordinator/gateway/keys/key_ring.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <utility>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

std::array<uint8_t, 32> DrawSecret() {
  std::array<uint8_t, 32> secret{};
  SHOAL_CHECK(RAND_bytes(secret.data(), secret.size()) == 1, "no random bytes can be had");
  return secret;
}

}  // namespace

KeyRing::KeyRing(std::vector<std::string> default_keys,
                 std::shared_ptr<const core::TenantsPolicy> policy)
    : secret_(DrawSecret()), default_keys_(std::move(default_keys)) {
  Configure(std::move(policy));
}

void KeyRing::Configure(std::shared_ptr<const core::TenantsPolicy> policy) {
  if (!policy) policy = std::make_shared<const core::TenantsPolicy>();
  std::map<Digest, size_t> owners;
  for (size_t i = 0; i < policy->tenants.size(); ++i) {
    for (const std::string& key : policy->tenants[i].keys) {
      const auto [owner, is_new] = owners.emplace(DigestOf(key), i);
      if (is_new || owner->second == i) continue;
      Throw(ErrorCode::kInvalidArgument, "tenants ", policy->tenants[owner->second].name, " and ",
            policy->tenants[i].name, " have one API key: give each keys of its own");
    }
  }
  for (const std::string& key : default_keys_) owners.emplace(DigestOf(key), kDefault);
  owners_ = std::move(owners);
  policy_ = std::move(policy);
  asks_ = asks_ || !owners_.empty();
}

std::optional<rpc::Caller> KeyRing::Find(std::string_view api_key) const {
  if (!asks_) return rpc::Caller{.service_class = policy_->defaults.service_class};
  const auto owner = owners_.find(DigestOf(api_key));
  if (owner == owners_.end()) return std::nullopt;
  if (owner->second == kDefault) {
    return rpc::Caller{.owner = Str("key ", api_key),
                       .service_class = policy_->defaults.service_class};
  }
  const core::TenantPolicy& tenant = policy_->tenants[owner->second];
  return rpc::Caller{.tenant = tenant.name,
                     .owner = Str("tenant ", tenant.name),
                     .service_class = tenant.service_class};
}

KeyRing::Digest KeyRing::DigestOf(std::string_view api_key) const {
  Digest digest{};
  unsigned int length = 0;
  const unsigned char* made = HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                                   reinterpret_cast<const unsigned char*>(api_key.data()),
                                   api_key.size(), digest.data(), &length);
  SHOAL_CHECK(made != nullptr && length == digest.size(), "SHA-256 is not there");
  return digest;
}

}  // namespace shoal::gateway
