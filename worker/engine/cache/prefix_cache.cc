#include "worker/engine/cache/prefix_cache.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/base/check.h"

namespace shoal::engine {
namespace {

// Each string with its length, so that no two roots are made of the same bytes.
void AppendPart(std::string_view part, std::string& bytes) {
  const uint64_t size = part.size();
  bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
  bytes.append(part);
}

}  // namespace

PrefixCache::PrefixCache(int64_t block_count, std::string_view secret, std::string_view numerics_id)
    : root_([&] {
        std::string root;
        AppendPart(secret, root);
        AppendPart(numerics_id, root);
        return root;
      }()),
      entries_(static_cast<size_t>(block_count)) {
  blocks_.reserve(entries_.size());
}

PrefixCache::Node PrefixCache::Root(std::string_view salt) const {
  std::string bytes = root_;
  AppendPart(salt, bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.hash_low = hash.low64,
          .hash_high = hash.high64,
          .entry = 0,
          .public_hash = PrefixHashRoot(salt)};
}

PrefixCache::Hash PrefixCache::Chain(const Node& parent, std::span<const int32_t> tokens) {
  SHOAL_CHECK(tokens.size() == BlockPool::kBlockTokens, tokens.size(), " tokens");
  struct {
    uint64_t low;
    uint64_t high;
    int32_t tokens[BlockPool::kBlockTokens];
  } input = {parent.hash_low, parent.hash_high, {}};
  std::copy(tokens.begin(), tokens.end(), input.tokens);
  const XXH128_hash_t hash = XXH3_128bits(&input, sizeof(input));
  return {.low = hash.low64, .high = hash.high64};
}

bool PrefixCache::Matches(const Entry& entry, const Node& parent, std::span<const int32_t> tokens,
                          std::string_view salt) {
  return entry.parent == parent.entry && (parent.entry != 0 || entry.salt == salt) &&
         std::equal(tokens.begin(), tokens.end(), entry.tokens.begin(), entry.tokens.end());
}

std::optional<PrefixCache::Hit> PrefixCache::Find(const Node& parent,
                                                  std::span<const int32_t> tokens,
                                                  std::string_view salt) const {
  const Hash hash = Chain(parent, tokens);
  const auto found = blocks_.find(hash);
  if (found == blocks_.end()) return std::nullopt;
  const Entry& entry = At(found->second);
  if (!Matches(entry, parent, tokens, salt)) return std::nullopt;
  return Hit{found->second, {hash.low, hash.high, entry.number, entry.public_hash}};
}

PrefixCache::Added PrefixCache::Add(const Node& parent, std::span<const int32_t> tokens,
                                    std::string_view salt, int32_t block) {
  const Hash hash = Chain(parent, tokens);
  if (const auto found = blocks_.find(hash); found != blocks_.end()) {
    const Entry& there = At(found->second);
    if (Matches(there, parent, tokens, salt)) {
      return {.node = {hash.low, hash.high, there.number, there.public_hash}, .is_new = false};
    }
    Forget(found->second);
  }
  Entry& entry = At(block);
  SHOAL_CHECK(entry.number == 0, "block ", block, " is in the cache already");
  entry.number = ++numbers_;
  entry.parent = parent.entry;
  entry.hash = hash;
  entry.public_hash = PrefixHashNext(parent.public_hash, tokens);
  entry.salt = parent.entry == 0 ? std::string(salt) : std::string();
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  blocks_.emplace(hash, block);
  NoteChange(entry.public_hash, +1);
  return {.node = {hash.low, hash.high, entry.number, entry.public_hash}, .is_new = true};
}

void PrefixCache::Forget(int32_t block) {
  Entry& entry = At(block);
  if (entry.number == 0) return;
  blocks_.erase(entry.hash);
  NoteChange(entry.public_hash, -1);
  entry = {};
}

void PrefixCache::NoteChange(uint64_t public_hash, int32_t by) {
  const auto change = changes_.try_emplace(public_hash, 0).first;
  change->second += by;
  if (change->second == 0) changes_.erase(change);
}

void PrefixCache::ReportAnew() {
  changes_.clear();
  report_full_ = true;
  for (const auto& [hash, block] : blocks_) NoteChange(At(block).public_hash, +1);
}

PrefixReport PrefixCache::TakeReport() {
  PrefixReport report;
  report.full = std::exchange(report_full_, false);
  auto change = changes_.begin();
  for (size_t count = 0; count < kPrefixReportMax && change != changes_.end(); ++count) {
    (change->second > 0 ? report.added : report.removed).push_back(change->first);
    change = changes_.erase(change);
  }
  return report;
}

}  // namespace shoal::engine
