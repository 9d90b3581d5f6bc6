#include "coordinator/gateway/keys/key_ring.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using KeyDigest = std::array<uint8_t, 32>;

// Of this process, and of one ring.
class Hasher {
 public:
  Hasher() {
    SHOAL_CHECK(RAND_bytes(secret_.data(), secret_.size()) == 1, "no random bytes can be had");
  }

  KeyDigest operator()(std::string_view api_key) const {
    KeyDigest digest{};
    unsigned int length = 0;
    const unsigned char* made = HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                                     reinterpret_cast<const unsigned char*>(api_key.data()),
                                     api_key.size(), digest.data(), &length);
    SHOAL_CHECK(made != nullptr && length == digest.size(), "SHA-256 is not there");
    return digest;
  }

 private:
  KeyDigest secret_{};
};

}  // namespace

class KeyRing::Index {
 public:
  Index(const Hasher& hasher, const std::vector<std::string>& default_keys,
        const std::string& operator_key, std::shared_ptr<const core::TenantsPolicy> policy)
      : hasher_(hasher), policy_(std::move(policy)) {
    if (!policy_) policy_ = std::make_shared<const core::TenantsPolicy>();
    if (!operator_key.empty()) owners_.emplace(hasher_(operator_key), kOperator);
    for (size_t i = 0; i < policy_->tenants.size(); ++i) {
      for (const std::string& key : policy_->tenants[i].keys) Add(key, i);
    }
    asks_ = owners_.size() > (operator_key.empty() ? 0 : 1) || !default_keys.empty();
    for (const std::string& key : default_keys) {
      const auto [owner, is_new] = owners_.emplace(hasher_(key), kDefault);
      if (!is_new && owner->second == kOperator) ThrowOperators("--api-keys-file");
    }
  }

  bool asks() const { return asks_; }

  // `asks`: whether a key is needed.
  std::optional<rpc::Caller> Find(std::string_view api_key, bool asks) const {
    const ServiceClass default_class = policy_->defaults.service_class;
    const auto owner = owners_.find(hasher_(api_key));
    if (owner != owners_.end() && owner->second == kOperator) {
      return rpc::Caller{.owner = "operator", .service_class = default_class, .is_operator = true};
    }
    if (!asks) return rpc::Caller{.service_class = default_class};
    if (owner == owners_.end()) return std::nullopt;
    if (owner->second == kDefault) {
      return rpc::Caller{.owner = Str("key ", api_key), .service_class = default_class};
    }
    const core::TenantPolicy& tenant = policy_->tenants[owner->second];
    return rpc::Caller{.tenant = tenant.name,
                       .owner = Str("tenant ", tenant.name),
                       .service_class = tenant.service_class};
  }

 private:
  // Beside the indexes of policy_->tenants.
  static constexpr size_t kDefault = SIZE_MAX;
  static constexpr size_t kOperator = SIZE_MAX - 1;

  [[noreturn]] static void ThrowOperators(const std::string& whose) {
    Throw(ErrorCode::kInvalidArgument, whose,
          " has the group token (--group-token-file) as an API key: it would be an operator; give "
          "it a key of its own");
  }

  void Add(const std::string& key, size_t tenant) {
    const auto [owner, is_new] = owners_.emplace(hasher_(key), tenant);
    if (is_new || owner->second == tenant) return;
    const std::string& name = policy_->tenants[tenant].name;
    if (owner->second == kOperator) ThrowOperators(Str("tenant ", name));
    Throw(ErrorCode::kInvalidArgument, "tenants ", policy_->tenants[owner->second].name, " and ",
          name, " have one API key: give each keys of its own");
  }

  const Hasher hasher_;
  std::shared_ptr<const core::TenantsPolicy> policy_;
  std::map<KeyDigest, size_t> owners_;
  bool asks_ = false;
};

KeyRing::KeyRing(std::vector<std::string> default_keys,
                 std::shared_ptr<const core::TenantsPolicy> policy, std::string operator_key)
    : preparation_([hasher = Hasher(), default_keys = std::move(default_keys),
                    operator_key =
                        std::move(operator_key)](std::shared_ptr<const core::TenantsPolicy> next) {
        return std::make_shared<const Index>(hasher, default_keys, operator_key, std::move(next));
      }) {
  Configure(preparation_(std::move(policy)));
}

KeyRing::Preparation KeyRing::preparation() const { return preparation_; }

void KeyRing::Configure(std::shared_ptr<const Index> index) {
  index_ = std::move(index);
  asks_ = asks_ || index_->asks();
}

std::optional<rpc::Caller> KeyRing::Find(std::string_view api_key) const {
  return index_->Find(api_key, asks_);
}

}  // namespace shoal::gateway
