#pragma once

// Linear layers over the quantised formats that have no kernel of their own (and the unpacking that
// int8/ shares with them), written once over an instruction set: what differs between formats is
// how a group's weights unpack to bytes and where its scale and minimum come from. Local to the
// file that includes it (kernels/cpu/inline.h says why).
//
// An Isa handles the panel in kParts vectors of kPartOutputs outputs:
//   Bytes, Ints, Floats, Lanes     for each output 4 k, an int32, a float; a float for all outputs
//   kSignedWeights                 8-bit weights are multiplied as they are, and not plus 128
//   Load, And, Or, ShiftLeft, ShiftRight, Fill, Lookup   on Bytes; shifts are of 16-bit lanes
//   FromBiased                     Bytes plus 128, as they are multiplied
//   FillInts, LoadInts, StoreInts, AddInts, ToFloats     on Ints
//   Halves, Singles, UnsignedBytes, SignedBytes, Broadcast   kPartOutputs factors as Floats
//   Multiply, MultiplyAdd, Negate  on Floats
//   Dot<bits>(weights, quants, start)     start + the exact dot product
//   AddQuad<rows, stride>(weights, quants, dots)   dots[r] += 8-bit weights times the quad of row
//                                         r, which lies r * stride on
//   kInt8Panels                    how many panels Int8Vectors takes at once: one or two
//   AddQuadTwice<rows, stride, distance>(weights, second, quants, dots)   if two: AddQuad, and the
//                                         second weights' to dots[distance + r]
//   ForRows<rows>(visit)           visit(r) for every row, unrolled or not
//   Join(parts), AddFixed          to Lanes; as in tiles/kernel.h

#include <cstdint>

#include "kernels/cpu/linear/groups/group_rows.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

// A run of groups of one panel, at most a block, and the rows that it meets.
struct GroupBlock {
  const uint8_t* groups;  // The first of them.
  const uint8_t* table;   // Of the panel's blocks' factors.
  int64_t table_k;        // k of the first group, counted from the first block's start.
  int64_t count;          // k.
  const GroupRows* rows;
};

template <typename Isa, DType kType>
struct GroupKernel {
  using Bytes = typename Isa::Bytes;
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  using Lanes = typename Isa::Lanes;
  static constexpr int64_t kGroup = GroupSize(kType);
  static constexpr int64_t kUnit = kGroup < 32 ? kGroup : 32;  // Unpacked at a time.
  static constexpr int kUnits = kGroup / kUnit;
  static constexpr int64_t kBits = PackedFactsOf(kType).bits;
  static constexpr bool kLookup = kType == DType::kIQ4_NL;
  static constexpr bool kHasMinimum = FactorOffsetsOf(kType).minimum >= 0;
  static constexpr int64_t kGroupBytes = PackedGroupBytes(kType);
  static constexpr int64_t kUnitBytes = kPanelRows * kUnit * kBits / 8;
  static constexpr int64_t kTableEntry = kPanelRows * PackedFactsOf(kType).block_factors;
  static constexpr int kQuads = kUnit / 4;
  static constexpr bool kWideWeights = kLookup || kBits == 8;
  static constexpr int32_t kOffset =
      kWideWeights ? (Isa::kSignedWeights ? 0 : 128) : QuantOffset(kType);

  template <int kShift>
  static SHOAL_INLINE Bytes Shift(Bytes x) {
    if constexpr (kShift > 0) return Isa::template ShiftLeft<kShift>(x);
    if constexpr (kShift < 0) return Isa::template ShiftRight<-kShift>(x);
    return x;
  }

  // The upper bits of quad kQuad, and of those after it, from the group's last vector.
  template <int kQuad>
  static SHOAL_INLINE void AddUpperBits(Bytes plane, Bytes* quads) {
    if constexpr (kQuad < kQuads) {
      constexpr int kUpperBits = kBits - 4;
      const Bytes mask = Isa::Fill(static_cast<int8_t>(((1 << kUpperBits) - 1) << 4));
      quads[kQuad] = Isa::Or(quads[kQuad], Isa::And(Shift<4 - kUpperBits * kQuad>(plane), mask));
      AddUpperBits<kQuad + 1>(plane, quads);
    }
  }

  static SHOAL_INLINE void Unpack(const uint8_t* unit, Bytes* quads) {
    const Bytes low = Isa::Fill(15);
#pragma GCC unroll 4
    for (int v = 0; v < kQuads / 2; ++v) {
      const Bytes both = Isa::Load(unit + 64 * v);
      quads[v] = Isa::And(both, low);
      quads[v + kQuads / 2] = Isa::And(Isa::template ShiftRight<4>(both), low);
    }
    if constexpr (kLookup) {
#pragma GCC unroll 8
      for (int v = 0; v < kQuads; ++v) quads[v] = Isa::Lookup(quads[v]);
    }
    if constexpr (kBits > 4) AddUpperBits<0>(Isa::Load(unit + 64 * (kQuads / 2)), quads);
  }

  static SHOAL_INLINE Floats Scale(const uint8_t* factors, const uint8_t* entry, int part) {
    if constexpr (kTableEntry == 0) {
      return Isa::Halves(factors, part);
    } else if constexpr (kHasMinimum) {
      return Isa::Multiply(Isa::Halves(entry, part), Isa::UnsignedBytes(factors, part));
    } else {
      return Isa::Multiply(Isa::Halves(entry, part), Isa::SignedBytes(factors, part));
    }
  }

  static SHOAL_INLINE Floats Minimum(const uint8_t* factors, const uint8_t* entry, int part) {
    if constexpr (kTableEntry == 0) {
      return Isa::Halves(factors + 2 * kPanelRows, part);
    } else {
      return Isa::Negate(Isa::Multiply(Isa::Halves(entry + 2 * kPanelRows, part),
                                       Isa::UnsignedBytes(factors + kPanelRows, part)));
    }
  }

  // dots[r] += the dot product with every row of a unit's part; `k` counts from the block's start.
  template <int kRows>
  static SHOAL_INLINE void AddDots(const uint8_t* unit, int part, const GroupRows& rows, int64_t k,
                                   Ints* dots) {
    unit += 4 * Isa::kPartOutputs * part;
    if constexpr (kBits == 8) {
#pragma GCC unroll 8
      for (int v = 0; v < kQuads; ++v) {
        Isa::template AddQuad<kRows, kBlockK>(Isa::FromBiased(Isa::Load(unit + 64 * v)),
                                              rows.quants[0] + k + 4 * v, dots);
      }
      return;
    }
    Bytes quads[kQuads];
    Unpack(unit, quads);
    Isa::template ForRows<kRows>([&](int r) __attribute__((always_inline)) {
      dots[r] = Isa::template Dot < kWideWeights ? 8 : kBits,
      kQuads > (quads, rows.quants[r] + k, dots[r]);
    });
  }

  // acc[r] for every row, of one part of group `g` of the block.
  template <int kRows>
  static SHOAL_INLINE void AddPart(const GroupBlock& block, int64_t g, int part, Floats* acc) {
    const uint8_t* group = block.groups + g * kGroupBytes;
    const uint8_t* factors = group + kUnits * kUnitBytes;
    const uint8_t* entry = block.table + (block.table_k + g * kGroup) / kBlockK * kTableEntry;
    const GroupRows& rows = *block.rows;
    Ints dots[kRows];
    Isa::template ForRows<kRows>([&](int r) __attribute__((always_inline)) {
      dots[r] = Isa::FillInts(kOffset == 0 ? 0 : rows.starts[r][g]);
    });
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) {
      AddDots<kRows>(group + u * kUnitBytes, part, rows, g * kGroup + u * kUnit, dots);
    }
    const Floats scale = Scale(factors, entry, part);
    [[maybe_unused]] Floats minimum;
    if constexpr (kHasMinimum) minimum = Minimum(factors, entry, part);
    Isa::template ForRows<kRows>([&](int r) __attribute__((always_inline)) {
      const Floats scales = Isa::Multiply(Isa::Broadcast(rows.scales[r][g]), scale);
      acc[r] = Isa::MultiplyAdd(scales, Isa::ToFloats(dots[r]), acc[r]);
      if constexpr (kHasMinimum) {
        acc[r] = Isa::MultiplyAdd(minimum, Isa::Broadcast(rows.minimums[r][g]), acc[r]);
      }
    });
  }

  // sums[r] += the block's sum.
  template <int kRows>
  static __attribute__((noinline)) void AddBlock(const GroupBlock& block,
                                                 float (*sums)[kPanelRows]) {
    Floats acc[Isa::kParts][kRows] = {};
    const Ahead ahead = Lanes::StreamAhead(kRows);
    for (int64_t g = 0; g < block.count / kGroup; ++g) {
      const uint8_t* group = block.groups + g * kGroupBytes;
      Prefetch<kGroupBytes>(group, ahead);
#pragma GCC unroll 2
      for (int part = 0; part < Isa::kParts; ++part) AddPart<kRows>(block, g, part, acc[part]);
    }
    for (int r = 0; r < kRows; ++r) {
      (Lanes::LoadLanes(sums[r]) + Isa::template Join<kRows>(acc, r)).StoreLanes(sums[r]);
    }
  }
};

}  // namespace
}  // namespace shoal::cpu
