#pragma once

// The walk over an array in vectors of lanes: L is Avx2Lanes or Avx512Lanes. Local to the file that
// includes it (kernels/cpu/inline.h says why).

#include <cstdint>

namespace shoal::cpu {
namespace {

// Calls whole(i) for i = 0, kWidth, ... and, if some are left over, part(i, how many).
template <typename L, typename Whole, typename Part>
void ForLanes(int64_t count, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + L::kWidth <= count; i += L::kWidth) whole(i);
  if (i < count) part(i, count - i);
}

}  // namespace
}  // namespace shoal::cpu
