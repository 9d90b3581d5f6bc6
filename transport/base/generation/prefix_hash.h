#pragma once

// By which a coordinator and the groups' leaders speak of prefixes that a group may have cached.
// They only say where a request is likely to find its prefix: whether it is there the group itself
// finds out, token by token.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

constexpr int64_t kPrefixBlockTokens = 32;

// The salt of a request's prefixes: those of two tenants never meet, whatever salts they send.
std::string PrefixSalt(const std::string& tenant, const std::string& cache_salt);

// Before the first block of a sequence with that salt.
uint64_t PrefixHashRoot(std::string_view salt);
// After a block of kPrefixBlockTokens tokens that comes after `before`: XXH3-64 of both.
uint64_t PrefixHashNext(uint64_t before, std::span<const int32_t> block);
// After each full block of `tokens`, but for one that ends with their last token, whose row is
// always computed.
std::vector<uint64_t> PrefixHashes(std::string_view salt, std::span<const int32_t> tokens);

// How a group's cache has changed since the report before.
struct PrefixReport {
  bool full = false;              // It begins anew: what was reported before counts no more.
  std::vector<uint64_t> added{};  // None is in both.
  std::vector<uint64_t> removed{};

  bool empty() const { return !full && added.empty() && removed.empty(); }
  bool operator==(const PrefixReport&) const = default;
};

// Hashes in one report; what is more comes with the next one.
constexpr size_t kPrefixReportMax = 2'048;

// Makes `report` say what both say, one after the other. Result: false, and it is as it was, if
// that is more than one report holds.
bool Append(PrefixReport& report, const PrefixReport& next);

}  // namespace shoal
