#pragma once

// A model's weights as one number that does not depend on how they are cut.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::model {

// The sum modulo 2^128 over units of XXH3-128(name, byte 0, unit index as little-endian u64, the
// unit's bytes as in the file), where XXH3-128 is read as high64 * 2^64 + low64.
//
// A unit is one output row of a column-parallel tensor or one embedding row (index = row), one
// (row, leaf) of a row-parallel one (index = row * leaf count + leaf), or one whole vector (index
// 0). Each unit is counted once, by its lowest owner. Order: none; ranks add theirs in any order.
class WeightDigest {
 public:
  WeightDigest() = default;
  WeightDigest(uint64_t high, uint64_t low) : high_(high), low_(low) {}

  void AddUnit(std::string_view tensor_name, int64_t unit, std::span<const std::byte> bytes);
  WeightDigest& operator+=(const WeightDigest& other);
  bool operator==(const WeightDigest& other) const {
    return high_ == other.high_ && low_ == other.low_;
  }

  uint64_t high() const { return high_; }
  uint64_t low() const { return low_; }
  // 32 lowercase digits, the high half first.
  std::string Hex() const;

 private:
  void Add(uint64_t high, uint64_t low);

  uint64_t high_ = 0;
  uint64_t low_ = 0;
  std::vector<std::byte> scratch_;  // Reused, so that a unit costs no allocation.
};

}  // namespace shoal::model
