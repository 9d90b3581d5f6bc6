#pragma once

// Sizes of Q8_0, Q4_0 and Q4_1, whose groups all vector kernels of them take alike. Local to the
// file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kGroup = 32;
constexpr int64_t kBlockGroups = kBlockK / kGroup;

// What is subtracted from every unsigned weight.
template <DType kType>
constexpr int32_t kOffset = QuantOffset(kType);

}  // namespace
}  // namespace shoal::cpu
