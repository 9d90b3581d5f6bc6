#pragma once

// What a stream is called for as long as anybody may ask for it, in every process.

#include <compare>
#include <cstdint>
#include <ostream>

namespace shoal {

// 128 random bits: no other stream has them, of this region or of another.
struct StreamId {
  uint64_t high = 0;
  uint64_t low = 0;

  auto operator<=>(const StreamId&) const = default;
};
// 32 hex digits.
std::ostream& operator<<(std::ostream& out, const StreamId& id);

}  // namespace shoal
