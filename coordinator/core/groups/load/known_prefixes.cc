#include "coordinator/core/groups/load/known_prefixes.h"

namespace shoal::core {

void KnownPrefixes::Apply(const PrefixReport& report) {
  if (report.full) {
    hashes_.clear();
    overflowed_ = false;
  }
  if (overflowed_) return;
  for (const uint64_t hash : report.removed) hashes_.erase(hash);
  hashes_.insert(report.added.begin(), report.added.end());
  if (hashes_.size() <= kMax) return;
  hashes_.clear();
  overflowed_ = true;
}

int64_t KnownPrefixes::ExpectedTokens(std::span<const uint64_t> hashes) const {
  int64_t blocks = 0;
  for (const uint64_t hash : hashes) {
    if (!hashes_.contains(hash)) break;
    ++blocks;
  }
  return blocks * kPrefixBlockTokens;
}

}  // namespace shoal::core
