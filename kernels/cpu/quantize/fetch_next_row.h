#pragma once

// Local to the file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/inline.h"

namespace shoal::cpu {
namespace {

// Of the row that follows one of `cols` values in `groups` groups, fetches the memory to be written
// while that is quantised: another core, which read it last, may hold it.
SHOAL_INLINE void FetchNextRow(const int8_t* quants, int64_t cols, const float* scales,
                               const int32_t* sums, int64_t groups) {
  for (int64_t i = 0; i < cols; i += 64) __builtin_prefetch(quants + cols + i, /*rw=*/1);
  for (int64_t i = 0; i < groups; i += 16) {
    __builtin_prefetch(scales + groups + i, /*rw=*/1);
    __builtin_prefetch(sums + groups + i, /*rw=*/1);
  }
}

}  // namespace
}  // namespace shoal::cpu
