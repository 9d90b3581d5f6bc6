#include "transport/base/generation/prefix_hash.h"

#include <xxhash.h>

#include <algorithm>

#include "transport/base/check.h"

namespace shoal {

std::string PrefixSalt(const std::string& tenant, const std::string& cache_salt) {
  // Of the default tenant it is what the client sent; no name of another one is empty.
  return tenant.empty() ? cache_salt : tenant + '\0' + cache_salt;
}

uint64_t PrefixHashRoot(std::string_view cache_salt) {
  return XXH3_64bits(cache_salt.data(), cache_salt.size());
}

uint64_t PrefixHashNext(uint64_t before, std::span<const int32_t> block) {
  SHOAL_CHECK(block.size() == kPrefixBlockTokens, block.size(), " tokens");
  struct {
    uint64_t before;
    int32_t tokens[kPrefixBlockTokens];
  } input = {before, {}};
  std::copy(block.begin(), block.end(), input.tokens);
  return XXH3_64bits(&input, sizeof(input));
}

std::vector<uint64_t> PrefixHashes(std::string_view cache_salt, std::span<const int32_t> tokens) {
  std::vector<uint64_t> hashes;
  uint64_t hash = PrefixHashRoot(cache_salt);
  for (size_t begin = 0; begin + kPrefixBlockTokens < tokens.size(); begin += kPrefixBlockTokens) {
    hash = PrefixHashNext(hash, tokens.subspan(begin, kPrefixBlockTokens));
    hashes.push_back(hash);
  }
  return hashes;
}

bool Append(PrefixReport& report, const PrefixReport& next) {
  if (next.full) {
    report = next;
    return true;
  }
  const size_t size = report.added.size() + report.removed.size();
  if (size + next.added.size() + next.removed.size() > kPrefixReportMax) return false;
  // A hash that came and went, or went and came, is as it was.
  for (const uint64_t hash : next.removed) {
    if (std::erase(report.added, hash) == 0) report.removed.push_back(hash);
  }
  for (const uint64_t hash : next.added) {
    if (std::erase(report.removed, hash) == 0) report.added.push_back(hash);
  }
  return true;
}

}  // namespace shoal
