#pragma once

// Linear layers over the quantised formats that have no kernel of their own (and the unpacking that
// linear_int8.h shares with them), written once over an instruction set: what differs between
// formats is how a group's weights unpack to bytes and where its scale and minimum come from.
//
// Included only by files compiled for one instruction set, with the same care as linear_panels.h.
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
//   kInt8Panels                    how many panels linear_int8.h takes at once: one or two
//   AddQuadTwice<rows, stride, distance>(weights, second, quants, dots)   if two: AddQuad, and the
//                                         second weights' to dots[distance + r]
//   ForRows<rows>(visit)           visit(r) for every row, unrolled or not
//   Join(parts), AddFixed          to Lanes; as in linear_tiles.h

#include "kernels/cpu/linear_panels.h"

namespace shoal::cpu {
namespace {

constexpr int kGroupTileRows = 8;
constexpr int64_t kGroupTilePanels = 4;

// Up to a block of a tile's rows at constant distances, with what a (row, group) needs once.
struct GroupRows {
  alignas(64) int8_t quants[kGroupTileRows][kBlockK];
  float scales[kGroupTileRows][kBlockK / 16];
  float minimums[kGroupTileRows][kBlockK / 16];  // scale * float(sum)
  int32_t starts[kGroupTileRows][kBlockK / 16];  // -offset * sum, where the dot product starts.

  // `count` k of `rows` rows, in groups of `group`.
  SHOAL_INLINE void Load(const ActivationRows& input, int32_t offset, int64_t row, int rows,
                         int64_t k, int64_t count, int64_t group) {
    for (int r = 0; r < rows; ++r) {
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      int64_t i = 0;
      for (; i + 64 <= count; i += 64) __builtin_memcpy(quants[r] + i, from + i, 64);
      for (; i < count; i += 16) __builtin_memcpy(quants[r] + i, from + i, 16);
      const int64_t first = ((row + r) * input.cols + k) / group;
      for (int64_t g = 0; g < count / group; ++g) {
        const int32_t sum = input.sums[first + g];
        scales[r][g] = input.scales[first + g];
        minimums[r][g] = scales[r][g] * static_cast<float>(sum);
        starts[r][g] = -offset * sum;
      }
    }
  }
};

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

// The matrix's panels, which begin with a table of `table_bytes`.
template <DType kType>
SHOAL_INLINE Panels TabledPanels(const PackedMatrix& weights, int64_t table_bytes) {
  constexpr int64_t kGroup = GroupSize(kType);
  constexpr int64_t kGroupBytes = PackedGroupBytes(kType);
  return {.data = reinterpret_cast<const uint8_t*>(weights.data),
          .bytes = (table_bytes + weights.cols / kGroup * kGroupBytes + 63) / 64 * 64,
          .rows = weights.rows,
          .cols = weights.cols};
}

// Where a tile stands in a call. Rows are taken eight, four, two or one at a time.
struct GroupPlace {
  static constexpr int kRows = kGroupTileRows;
  static constexpr int64_t kPanels = kGroupTilePanels;

  SHOAL_INLINE void Place(int64_t new_row, int64_t rows_left, int64_t new_panel,
                          int64_t new_panel_count) {
    row = new_row;
    panel = new_panel;
    row_count = rows_left >= 8 ? 8 : rows_left >= 4 ? 4 : rows_left >= 2 ? 2 : 1;
    panel_count = new_panel_count;
  }

  int64_t row = 0;
  int row_count = 0;
  int64_t panel = 0;
  int64_t panel_count = 0;
};

// A tile of up to kGroupTileRows rows and kGroupTilePanels panels of a call.
template <typename Isa, DType kType>
struct GroupTile : GroupPlace {
  using Kernel = GroupKernel<Isa, kType>;
  using Lanes = typename Isa::Lanes;

  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return Isa::AddFixed(y, limit, sums);
  }

  SHOAL_INLINE GroupTile(const PackedMatrix& weights, const ActivationRows& input)
      : input_(input), block_offset_(weights.block_offset) {
    table_bytes_ = Kernel::kTableEntry * ((weights.cols + kBlockK - 1) / kBlockK + 1);
    panels = TabledPanels<kType>(weights, table_bytes_);
  }

  // Calls sink(panel of the tile, row of the tile, sum) with the sums over a leaf,
  // [k_begin, k_end).
  template <typename Sink>
  SHOAL_INLINE void SumLeaf(int64_t k_begin, int64_t k_end, Sink sink) {
    Clear();
    for (int64_t k = k_begin; k < k_end; k += kBlockK) {
      const int64_t count = Smaller(kBlockK, k_end - k);
      rows.Load(input_, Kernel::kOffset, row, row_count, k, count, Kernel::kGroup);
      for (int64_t p = 0; p < panel_count; ++p) {
        const uint8_t* table = Table(p);
        AddBlock({.groups = table + table_bytes_ + k / Kernel::kGroup * Kernel::kGroupBytes,
                  .table = table,
                  .table_k = block_offset_ + k,
                  .count = count,
                  .rows = rows.block},
                 p);
      }
    }
    for (int64_t p = 0; p < panel_count; ++p) {
      for (int r = 0; r < row_count; ++r) sink(p, r, Lanes::LoadLanes(results_[p][r]));
    }
  }

  // How many blocks of rows SumLeaf takes for all leaves of so many k.
  SHOAL_INLINE int64_t BlocksOf(int64_t leaf_cols) const {
    return (panels.cols + leaf_cols - 1) / leaf_cols * ((leaf_cols + kBlockK - 1) / kBlockK);
  }

  static constexpr int64_t kKeptBlocks = kKeptBytes / sizeof(GroupRows);

  Panels panels;
  KeptRows<GroupRows> rows;
  GroupRows kept[kKeptBlocks];

 private:
  SHOAL_INLINE const uint8_t* Table(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes;
  }

  SHOAL_INLINE void Clear() {
    for (int64_t p = 0; p < panel_count; ++p) {
      for (int r = 0; r < row_count; ++r) Lanes::Zero().StoreLanes(results_[p][r]);
    }
  }

  SHOAL_INLINE void AddBlock(const GroupBlock& block, int64_t p) {
    switch (row_count) {
      case 8:
        return Kernel::template AddBlock<8>(block, results_[p]);
      case 4:
        return Kernel::template AddBlock<4>(block, results_[p]);
      case 2:
        return Kernel::template AddBlock<2>(block, results_[p]);
      default:
        return Kernel::template AddBlock<1>(block, results_[p]);
    }
  }

  const ActivationRows& input_;
  int64_t block_offset_;
  int64_t table_bytes_;
  alignas(64) float results_[kGroupTilePanels][kGroupTileRows][kPanelRows];
};

// Calls visit() for every placement of the tile; panels outside, so that they stay in the cache,
// for as many rows as there is room to keep.
template <typename Tile, typename Call, typename Visit>
SHOAL_INLINE void ForTiles(const Call& call, Tile& tile, int64_t leaf_cols, Visit visit) {
  const int64_t row_count = call.row_end - call.row_begin;
  const int64_t step = row_count <= kStreamedRows ? 1 : Tile::kPanels;
  const int64_t blocks = tile.BlocksOf(leaf_cols);
  const bool keeps = blocks <= Tile::kKeptBlocks;
  const int64_t tiles_max = keeps ? Tile::kKeptBlocks / blocks : row_count;
  int64_t row_end = call.row_begin;
  for (int64_t row_begin = call.row_begin; row_begin < call.row_end; row_begin = row_end) {
    for (int64_t panel = call.panel_begin; panel < call.panel_end; panel += step) {
      row_end = row_begin;
      for (int64_t i = 0; i < tiles_max && row_end < call.row_end; ++i) {
        tile.Place(row_end, call.row_end - row_end, panel, Smaller(step, call.panel_end - panel));
        tile.rows = {.block = nullptr,
                     .next = tile.kept + (keeps ? i * blocks : 0),
                     .step = keeps ? 1 : 0,
                     .makes = !keeps || panel == call.panel_begin};
        FetchOutputs(call, tile.row, tile.row_count, panel, tile.panel_count);
        visit();
        row_end += tile.row_count;
      }
    }
  }
}

template <typename Tile>
void LinearByTiles(const LinearCall& call) {
  using Lanes = typename Tile::Lanes;
  Tile tile(*call.weights, *call.input);
  ForTiles(
      call, tile, tile.panels.cols, [&]() __attribute__((always_inline)) {
        tile.SumLeaf(
            0, tile.panels.cols, [&](int64_t p, int r, Lanes sum) __attribute__((always_inline)) {
              const int64_t panel = tile.panel + p;
              float* output =
                  call.output + (tile.row + r) * call.output_stride + panel * kPanelRows;
              sum.StoreOutputs(output, OutputsOf(tile.panels, panel));
            });
      });
}

template <typename Tile>
void LeafLinearByTiles(const LeafLinearCall& call) {
  using Lanes = typename Tile::Lanes;
  Tile tile(*call.weights, *call.input);
  const int64_t start = FixedStart<Lanes>(tile.panels.cols, call.leaf_cols);
  alignas(64) int64_t sums[Tile::kPanels][Tile::kRows][kPanelRows];
  ForTiles(
      call, tile, call.leaf_cols, [&]() __attribute__((always_inline)) {
        for (int64_t p = 0; p < tile.panel_count; ++p) {
          for (int r = 0; r < tile.row_count; ++r) {
            for (int64_t& sum : sums[p][r]) sum = start;
          }
        }
        int64_t invalid[Tile::kRows] = {};
        for (int64_t k = 0; k < tile.panels.cols; k += call.leaf_cols) {
          tile.SumLeaf(
              k, Smaller(k + call.leaf_cols, tile.panels.cols),
              [&](int64_t p, int r, Lanes sum) __attribute__((always_inline)) {
                const uint32_t bad = Tile::AddFixed(sum, call.limit, sums[p][r]);
                if (__builtin_expect(bad != 0, 0)) {
                  // Padding lanes of an invalid row are NaN too, but they are nobody's output.
                  const uint32_t present =
                      (uint32_t{1} << OutputsOf(tile.panels, tile.panel + p)) - 1;
                  invalid[r] += __builtin_popcount(bad & present);
                }
              });
        }
        for (int r = 0; r < tile.row_count; ++r) {
          for (int64_t p = 0; p < tile.panel_count; ++p) {
            const int64_t panel = tile.panel + p;
            int64_t* output =
                call.output + (tile.row + r) * call.output_stride + panel * kPanelRows;
            __builtin_memcpy(output, sums[p][r],
                             static_cast<size_t>(OutputsOf(tile.panels, panel)) * sizeof(int64_t));
          }
          if (invalid[r] != 0) {
            __atomic_fetch_add(&call.invalid[tile.row + r], invalid[r], __ATOMIC_RELAXED);
          }
        }
      });
}

template <typename Isa>
SHOAL_INLINE void RunGroups(const LinearCall& call) {
  switch (call.weights->dtype) {
    case DType::kQ5_0:
      return LinearByTiles<GroupTile<Isa, DType::kQ5_0>>(call);
    case DType::kQ5_1:
      return LinearByTiles<GroupTile<Isa, DType::kQ5_1>>(call);
    case DType::kQ4_K:
      return LinearByTiles<GroupTile<Isa, DType::kQ4_K>>(call);
    case DType::kQ5_K:
      return LinearByTiles<GroupTile<Isa, DType::kQ5_K>>(call);
    case DType::kQ6_K:
      return LinearByTiles<GroupTile<Isa, DType::kQ6_K>>(call);
    case DType::kQ4_G128:
      return LinearByTiles<GroupTile<Isa, DType::kQ4_G128>>(call);
    case DType::kQ8_G128:
      return LinearByTiles<GroupTile<Isa, DType::kQ8_G128>>(call);
    default:
      return LinearByTiles<GroupTile<Isa, DType::kIQ4_NL>>(call);
  }
}

template <typename Isa>
SHOAL_INLINE void RunLeafGroups(const LeafLinearCall& call) {
  switch (call.weights->dtype) {
    case DType::kQ5_0:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ5_0>>(call);
    case DType::kQ5_1:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ5_1>>(call);
    case DType::kQ4_K:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ4_K>>(call);
    case DType::kQ5_K:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ5_K>>(call);
    case DType::kQ6_K:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ6_K>>(call);
    case DType::kQ4_G128:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ4_G128>>(call);
    case DType::kQ8_G128:
      return LeafLinearByTiles<GroupTile<Isa, DType::kQ8_G128>>(call);
    default:
      return LeafLinearByTiles<GroupTile<Isa, DType::kIQ4_NL>>(call);
  }
}

}  // namespace
}  // namespace shoal::cpu
