#include "coordinator/shell/tenants_file.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "coordinator/core/tenants/token_bucket.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/base/overload/service_class.h"
#include "transport/config/yaml_map.h"
#include "transport/rpc/secret.h"

namespace shoal::gateway {
namespace {

using config::YamlMap;
using core::TenantPolicy;
using core::TenantsPolicy;

constexpr size_t kTenantsMax = 100'000;
constexpr size_t kNameBytesMax = 64;
constexpr size_t kKeyBytesMax = 512;
// Together: the rest is what others are served by.
constexpr double kFloorSharesMax = 0.95;

std::vector<std::string> ClassNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kServiceClasses; ++i) {
    names.emplace_back(ToString(static_cast<ServiceClass>(i)));
  }
  return names;
}

// Whether it can be shown in a header, and read in a log.
bool IsPlain(const std::string& text) {
  return std::ranges::all_of(text, [](char each) { return each > ' ' && each < 0x7f; });
}

// What a tenant and the defaults have in common; `missing` of what is not there.
TenantPolicy ReadTerms(YamlMap& map, const TenantPolicy& missing) {
  TenantPolicy terms;
  const int service_class = map.Choice("class", ClassNames());
  terms.service_class =
      service_class < 0 ? missing.service_class : static_cast<ServiceClass>(service_class);
  terms.weight = map.Double("weight", missing.weight, {0.001, 1'000});
  terms.tokens_per_second =
      map.Double("tokens_per_second", missing.tokens_per_second, {0, core::kTokensPerSecondMax});
  terms.burst_tokens = map.Double("burst_tokens", missing.burst_tokens, {0, core::kBurstTokensMax});
  if (map.Has("burst_tokens") && terms.burst_tokens > 0 && terms.tokens_per_second <= 0) {
    map.Fail("burst_tokens", "expected a tokens_per_second beside it, which it is the burst of");
  }
  terms.requests_in_flight_max = static_cast<int32_t>(
      map.Int("requests_in_flight_max", missing.requests_in_flight_max, {0, 1 << 20}));
  terms.floor_share = map.Double("floor_share", 0, {0, kFloorSharesMax});
  return terms;
}

// Whose each API key is.
class Seen {
 public:
  // Errors: kInvalidArgument, at that key of the map, if another tenant has the API key.
  void AddKey(const YamlMap& map, std::string_view at, const std::string& key,
              const std::string& tenant) {
    const auto [owner, is_new] = keys_.emplace(key, tenant);
    if (is_new) return;
    map.Fail(at, owner->second == tenant ? Str("has the same API key twice: leave one of them")
                                         : Str("has an API key that tenant ", owner->second,
                                               " has too: each key must be of one tenant"));
  }

 private:
  std::map<std::string, std::string> keys_;
};

std::vector<std::string> ReadKeys(YamlMap& map, const std::filesystem::path& folder) {
  const bool has_file = map.Has("keys_file");
  if (has_file == map.Has("keys")) {
    map.Fail(has_file ? "keys_file" : "name",
             Str("expected either keys (a list) or keys_file (one a line), found ",
                 has_file ? "both" : "neither"));
  }
  if (!has_file) return map.Texts("keys");
  const std::filesystem::path file = folder / map.Text("keys_file", "");
  try {
    return rpc::ReadKeysFile(file.string());
  } catch (const Error& error) {
    map.Fail("keys_file", error.what());
  }
}

TenantPolicy ReadTenant(YamlMap& map, const TenantPolicy& defaults,
                        const std::filesystem::path& folder, Seen& seen) {
  const std::string name = map.Text("name", "");
  if (name.empty() || name.size() > kNameBytesMax || !IsPlain(name)) {
    map.Fail("name", Str("expected 1 to ", kNameBytesMax,
                         " visible ASCII characters without spaces, found '", name, "'"));
  }
  TenantPolicy tenant = ReadTerms(map, defaults);
  tenant.name = name;
  tenant.keys = ReadKeys(map, folder);
  const std::string_view at = map.Has("keys") ? "keys" : "keys_file";
  if (tenant.keys.empty()) map.Fail(at, "expected at least one API key, found none");
  for (size_t i = 0; i < tenant.keys.size(); ++i) {
    const std::string& key = tenant.keys[i];
    if (key.empty() || key.size() > kKeyBytesMax || !IsPlain(key)) {
      map.Fail(at, Str("expected API keys of 1 to ", kKeyBytesMax,
                       " visible ASCII characters without spaces; number ", i + 1, " is not"));
    }
    seen.AddKey(map, at, key, name);
  }
  map.Finish();
  return tenant;
}

void ReadClasses(YamlMap map, TenantsPolicy& policy) {
  const std::vector<std::string> names = ClassNames();
  for (size_t i = 0; i < names.size(); ++i) {
    YamlMap each = map.Map(names[i]);
    policy.classes[i].floor_share = each.Double("floor_share", 0, {0, kFloorSharesMax});
    each.Finish();
  }
  map.Finish();
}

void CheckFloors(const YamlMap& root, const TenantsPolicy& policy) {
  double sum = 0;
  for (const core::ClassPolicy& each : policy.classes) sum += each.floor_share;
  for (const TenantPolicy& tenant : policy.tenants) sum += tenant.floor_share;
  if (sum <= kFloorSharesMax + 1e-9) return;
  root.Fail("tenants", Str("the floor_share of all classes and tenants come to ", sum,
                           " together, expected at most ", kFloorSharesMax, ": lower some"));
}

}  // namespace

std::shared_ptr<const TenantsPolicy> ReadTenantsFile(const std::string& path) {
  YamlMap root = YamlMap::ReadFile(path);
  const auto policy = std::make_shared<TenantsPolicy>();
  YamlMap defaults = root.Map("defaults");
  policy->defaults = ReadTerms(defaults, {});
  defaults.Finish();
  ReadClasses(root.Map("classes"), *policy);
  policy->retry_share_max = root.Double("retry_share_max", policy->retry_share_max, {0, 1});
  policy->shape_tokens_per_second =
      root.Double("shape_tokens_per_second", 0, {0, core::kTokensPerSecondMax});
  Seen seen;
  std::map<std::string, int32_t> lines;  // Of each name.
  std::vector<YamlMap> tenants = root.Maps("tenants");
  if (root.Has("tenants") && tenants.empty()) {
    root.Fail("tenants",
              "expected at least one, found none: then nobody would be let in; without the key "
              "everybody is the default tenant");
  }
  if (tenants.size() > kTenantsMax) {
    root.Fail("tenants", Str("expected at most ", kTenantsMax, ", found ", tenants.size()));
  }
  for (YamlMap& map : tenants) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    policy->tenants.push_back(ReadTenant(map, policy->defaults, folder, seen));
    const auto [first, is_new] = lines.emplace(policy->tenants.back().name, map.LineOf("name"));
    if (!is_new) map.Fail("name", Str("the tenant of line ", first->second, " has that name"));
  }
  root.Finish();
  CheckFloors(root, *policy);
  return policy;
}

}  // namespace shoal::gateway
