#pragma once

// INT8 dot products over groups of k. Local to the file that includes it (kernels/cpu/inline.h says
// why).

#include <cstdint>

#include "kernels/cpu/linear/groups/group_kernel.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

// acc[panel][row] += dot products of a group with kCount interleaved rows, with a row's additions
// spread over kChains sums. A second panel's group lies panel_bytes on.
template <typename Isa, int kCount, int kChains, int kWide>
SHOAL_INLINE void AddQuads(const uint8_t* group, int64_t panel_bytes, int part, const int8_t* quads,
                           typename Isa::Ints (&acc)[kWide][kChains * kCount]) {
  group += 4 * Isa::kPartOutputs * part;
#pragma GCC unroll 8
  for (int v = 0; v < GroupKernel<Isa, DType::kINT8>::kQuads; ++v, quads += 4 * kCount) {
    const auto weights = Isa::FromBiased(Isa::Load(group + 64 * v));
    typename Isa::Ints* dots = acc[0] + v % kChains * kCount;
    if constexpr (kWide == 2) {
      const auto second = Isa::FromBiased(Isa::Load(group + panel_bytes + 64 * v));
      Isa::template AddQuadTwice<kCount, 4, kChains * kCount>(weights, second, quads, dots);
    } else {
      Isa::template AddQuad<kCount, 4>(weights, quads, dots);
    }
  }
}

// dots[16] = start + the dot products of a single row of `cols` with a panel.
template <typename Isa>
__attribute__((noinline)) void DotRow(const uint8_t* groups, const int8_t* quants, int64_t cols,
                                      int32_t start, int32_t* dots) {
  using Kernel = GroupKernel<Isa, DType::kINT8>;
  using Ints = typename Isa::Ints;
  constexpr int kChains = 4;
  const Ahead ahead = Isa::Lanes::StreamAhead(1);
#pragma GCC unroll 2
  for (int part = 0; part < Isa::kParts; ++part) {
    Ints acc[1][kChains] = {
        {Isa::FillInts(start), Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0)}};
    for (int64_t k = 0; k < cols; k += Kernel::kGroup) {
      const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
      if (part == 0) Prefetch<Kernel::kGroupBytes>(group, ahead);
      AddQuads<Isa, 1, kChains>(group, 0, part, quants + k, acc);
    }
    const Ints dot =
        Isa::AddInts(Isa::AddInts(acc[0][0], acc[0][1]), Isa::AddInts(acc[0][2], acc[0][3]));
    Isa::StoreInts(dot, dots + part * Isa::kPartOutputs);
  }
}

}  // namespace
}  // namespace shoal::cpu
