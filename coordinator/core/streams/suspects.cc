#include "coordinator/core/streams/suspects.h"

#include <xxhash.h>

#include <algorithm>
#include <string>

namespace shoal::core {

namespace {

constexpr size_t kSuspectsMax = 256;

}  // namespace

Suspects::Hash Suspects::HashOf(const ModelKey& key, const std::vector<int32_t>& prompt) {
  std::string bytes = key.name + '\n' + key.numerics_id + '\n';
  bytes.append(reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(int32_t));
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

void Suspects::Add(const ModelKey& key, const std::vector<int32_t>& prompt, TimeNs until) {
  const Hash hash = HashOf(key, prompt);
  std::erase_if(suspects_, [&](const Suspect& suspect) { return suspect.hash == hash; });
  suspects_.push_back({hash, until});
  if (suspects_.size() > kSuspectsMax) suspects_.pop_front();
}

TimeNs Suspects::RefusedFor(const ModelKey& key, const std::vector<int32_t>& prompt,
                            TimeNs now) const {
  if (suspects_.empty()) return 0;  // As a rule: then nothing is hashed.
  const auto suspect = std::ranges::find(suspects_, HashOf(key, prompt), &Suspect::hash);
  return suspect == suspects_.end() ? 0 : std::max<TimeNs>(suspect->until - now, 0);
}

}  // namespace shoal::core
