#include "parallel/model/digest.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <cstring>

// Units are small (a row of weights), so copying them after their prefix and hashing once is
// cheaper than xxHash's streaming state.

namespace shoal::model {

void WeightDigest::AddUnit(std::string_view tensor_name, int64_t unit,
                           std::span<const std::byte> bytes) {
  const size_t prefix_bytes = tensor_name.size() + 1 + sizeof(uint64_t);
  scratch_.resize(prefix_bytes + bytes.size());
  std::memcpy(scratch_.data(), tensor_name.data(), tensor_name.size());
  scratch_[tensor_name.size()] = std::byte{0};
  const auto index = static_cast<uint64_t>(unit);
  for (size_t i = 0; i < sizeof(index); ++i) {
    scratch_[tensor_name.size() + 1 + i] = static_cast<std::byte>(index >> (8 * i));
  }
  if (!bytes.empty()) {
    std::memcpy(scratch_.data() + prefix_bytes, bytes.data(), bytes.size());
  }
  const XXH128_hash_t hash = XXH3_128bits(scratch_.data(), scratch_.size());
  Add(hash.high64, hash.low64);
}

WeightDigest& WeightDigest::operator+=(const WeightDigest& other) {
  Add(other.high_, other.low_);
  return *this;
}

std::string WeightDigest::Hex() const {
  std::array<char, 33> text;
  std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(high_),
                static_cast<unsigned long long>(low_));
  return text.data();
}

void WeightDigest::Add(uint64_t high, uint64_t low) {
  low_ += low;
  high_ += high + (low_ < low ? 1 : 0);
}

}  // namespace shoal::model
