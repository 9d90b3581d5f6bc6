#pragma once

// INT8 linear layers: an output has one scale and a row of activations another, so all that is
// computed per weight is exact, and a product's float work is once per output.
//
// Written over what computes the dot products (a Dots), of which there is one with vectors here and
// one with tiles in linear_amx_int8.h:
//   Lanes                          16 floats, as linear_tiles.h has them
//   kOffset                        what weights have too much: they are packed plus 128
//   Dots(weights, input), panels   panels: the matrix's, as TabledPanels gives them
//   ForEach(call, sink)            sink(panel, first row, rows, dots[row][16]) for all that a call
//                                  asks for
//   Scaled(table, scale, dots, start)   Lanes: +0 + fma(scale * table[o], float(dots + start), +0)
//
// Included only with the same care as linear_panels.h.

#include "kernels/cpu/linear_groups.h"

namespace shoal::cpu {
namespace {

// A row's dot products with the outputs of a panel, and those of the rows that follow.
using RowDots = const int32_t (*)[kPanelRows];

// A tile's rows at constant distances, so that one register addresses all of them: so many k that
// half of the first cache is left to weights.
struct Int8Rows {
  static constexpr int64_t kBlock = 2048;
  alignas(64) int8_t quants[kGroupTileRows][kBlock];
};

// What an Isa of linear_groups.h does with up to eight rows and Isa::kInt8Panels panels in
// registers.
template <typename Isa>
class Int8Vectors : public GroupPlace {
 public:
  using Lanes = typename Isa::Lanes;
  static constexpr int32_t kOffset = GroupKernel<Isa, DType::kINT8>::kOffset;

  SHOAL_INLINE Int8Vectors(const PackedMatrix& weights, const ActivationRows& input)
      : panels(TabledPanels<DType::kINT8>(weights, Kernel::kTableEntry)), input_(input) {}

  static SHOAL_INLINE Lanes Scaled(const float* table, float scale, const int32_t* dots,
                                   int32_t start) {
    typename Isa::Floats acc[Isa::kParts][1];
    const auto* bytes = reinterpret_cast<const uint8_t*>(table);
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      const Ints dot =
          Isa::AddInts(Isa::LoadInts(dots + part * Isa::kPartOutputs), Isa::FillInts(start));
      acc[part][0] =
          Isa::MultiplyAdd(Isa::Multiply(Isa::Broadcast(scale), Isa::Singles(bytes, part)),
                           Isa::ToFloats(dot), Isa::Broadcast(0.0f));
    }
    return Lanes::Zero() + Isa::template Join<1>(acc, 0);
  }

  template <typename Call, typename Sink>
  SHOAL_INLINE void ForEach(const Call& call, Sink sink) {
    const int64_t rows = call.row_end - call.row_begin;
    const int64_t step = rows <= kStreamedRows ? 1 : PanelsTogether();
    for (int64_t first = call.panel_begin; first < call.panel_end; first += step) {
      const int64_t next = Smaller(first + step, call.panel_end);
      if (step > 1) {
        const int64_t end = Smaller(next + step, call.panel_end);
        following_ = {panels.data + next * panels.bytes, (end - next) * panels.bytes / 64};
      }
      for (int64_t r = call.row_begin; r < call.row_end; r += row_count) {
        Place(r, call.row_end - r, first, next - first);
        due_ = following_.lines * row_count / (call.row_end - r);
        if (row_count > 1) {
          SumDots(call, sink);
          continue;
        }
        FetchOutputs(call, row, 1, panel, panel_count);
        for (int64_t p = 0; p < panel_count; ++p) {
          DotRow(Groups(p), input_.quants + row * panels.cols, dots_[0][0]);
          sink(panel + p, row, 1, dots_[0]);
        }
      }
    }
  }

  Panels panels;

 private:
  using Kernel = GroupKernel<Isa, DType::kINT8>;
  using Ints = typename Isa::Ints;

  static constexpr int64_t kPanels = 16;
  static constexpr int kTogether = Isa::kInt8Panels;
  static_assert(kTogether <= 2);
  // Less than half of the second cache of processors with AVX-512.
  static constexpr int64_t kTileBytes = 448 << 10;

  // Weights that are still to be brought to the second cache.
  struct Following {
    const uint8_t* data;
    int64_t lines;
  };

  // A block of K: `count` of it, whose weights begin so many bytes behind a panel's first.
  struct Block {
    int64_t offset;
    int64_t count;
  };

  // Panels that stay in the second cache while all rows meet them.
  SHOAL_INLINE int64_t PanelsTogether() const {
    const int64_t panels_max = kTileBytes / panels.bytes / kTogether * kTogether;
    return panels_max < kTogether ? kTogether : Smaller(panels_max, kPanels);
  }

  // Fetches of the next panels the part that falls to one of `steps` of this tile.
  SHOAL_INLINE void FetchFollowing(int64_t steps) {
    const int64_t lines = due_ / steps;
    for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(following_.data + 64 * i, 0, 2);
    following_.data += 64 * lines;
    following_.lines -= lines;
    due_ -= lines;
  }

  SHOAL_INLINE const uint8_t* Groups(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes + Kernel::kTableEntry;
  }

  // acc[panel][row] += dot products of a group, with a row's additions dealt to kChains sums.
  template <int kCount, int kChains, int kWide>
  SHOAL_INLINE void AddQuads(const uint8_t* group, int part, const int8_t* quants,
                             Ints (&acc)[kWide][kChains * kCount]) const {
    group += 4 * Isa::kPartOutputs * part;
#pragma GCC unroll 8
    for (int v = 0; v < Kernel::kQuads; ++v) {
      const auto weights = Isa::FromBiased(Isa::Load(group + 64 * v));
      Ints* dots = acc[0] + v % kChains * kCount;
      if constexpr (kWide == 2) {
        const auto second = Isa::FromBiased(Isa::Load(group + panels.bytes + 64 * v));
        Isa::template AddQuadTwice<kCount, Int8Rows::kBlock, kChains * kCount>(
            weights, second, quants + 4 * v, dots);
      } else {
        Isa::template AddQuad<kCount, Int8Rows::kBlock>(weights, quants + 4 * v, dots);
      }
    }
  }

  // The whole of K for a single row, in registers.
  __attribute__((noinline)) void DotRow(const uint8_t* groups, const int8_t* quants,
                                        int32_t* dots) {
    constexpr int kChains = 4;
    const Ahead ahead = Lanes::StreamAhead(1);
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[1][kChains] = {
          {Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0)}};
      for (int64_t k = 0; k < panels.cols; k += Kernel::kGroup) {
        const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
        if (part == 0) Prefetch<Kernel::kGroupBytes>(group, ahead);
        AddQuads<1, kChains>(group, part, quants + k, acc);
      }
      const Ints dot =
          Isa::AddInts(Isa::AddInts(acc[0][0], acc[0][1]), Isa::AddInts(acc[0][2], acc[0][3]));
      Isa::StoreInts(dot, dots + part * Isa::kPartOutputs);
    }
  }

  SHOAL_INLINE void ClearDots(int64_t p, int64_t wide) {
    for (int64_t i = p; i < p + wide; ++i) {
      for (int r = 0; r < row_count; ++r) {
#pragma GCC unroll 2
        for (int part = 0; part < Isa::kParts; ++part) {
          Isa::StoreInts(Isa::FillInts(0), dots_[i][r] + part * Isa::kPartOutputs);
        }
      }
    }
  }

  // Panels that are taken together are done before the next: all outputs of a tile at once would be
  // more stores than a core holds.
  template <typename Call, typename Sink>
  SHOAL_INLINE void SumDots(const Call& call, Sink sink) {
    for (int64_t k = 0; k < panels.cols; k += Int8Rows::kBlock) {
      const Block block = {.offset = k / Kernel::kGroup * Kernel::kGroupBytes,
                           .count = Smaller(Int8Rows::kBlock, panels.cols - k)};
      const bool is_last = k + block.count == panels.cols;
      if (copied_ != row || block.count != panels.cols) {
        CopyRows(input_, row, row_count, k, block.count, rows_.quants);
        copied_ = row;
      }
      for (int64_t p = 0; p < panel_count; p += kTogether) {
        const int64_t wide = Smaller(kTogether, panel_count - p);
        FetchFollowing((panel_count - p + kTogether - 1) / kTogether);
        if (k == 0) ClearDots(p, wide);
        if (is_last) FetchOutputs(call, row, row_count, panel + p, wide);
        switch (row_count) {
          case 8:
            wide == kTogether ? AddBlock<8, kTogether>(block, p) : AddBlock<8, 1>(block, p);
            break;
          case 4:
            wide == kTogether ? AddBlock<4, kTogether>(block, p) : AddBlock<4, 1>(block, p);
            break;
          default:
            wide == kTogether ? AddBlock<2, kTogether>(block, p) : AddBlock<2, 1>(block, p);
        }
        if (!is_last) continue;
        for (int64_t i = p; i < p + wide; ++i) sink(panel + i, row, row_count, dots_[i]);
      }
    }
  }

  // dots_[p + i][r] += the dot products of a block with kWide panels, or = those of the first.
  template <int kCount, int kWide>
  __attribute__((noinline)) void AddBlock(const Block& block, int64_t p) {
    // One sum's additions wait for each other, so those of few rows are dealt to several.
    constexpr int kChains = kCount == 2 ? 2 : 1;
    const Ahead ahead = Lanes::StreamAhead(kCount);
    const uint8_t* groups = Groups(p) + block.offset;
    int32_t(*dots)[kRows][kPanelRows] = dots_ + p;
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[kWide][kChains * kCount];
      for (int i = 0; i < kWide; ++i) {
        for (int r = 0; r < kCount; ++r) {
          acc[i][r] = Isa::LoadInts(dots[i][r] + part * Isa::kPartOutputs);
        }
        for (int r = kCount; r < kChains * kCount; ++r) acc[i][r] = Isa::FillInts(0);
      }
      for (int64_t k = 0; k < block.count; k += Kernel::kGroup) {
        const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
#pragma GCC unroll 2
        for (int i = 0; i < kWide; ++i) {
          if (part == 0) Prefetch<Kernel::kGroupBytes>(group + i * panels.bytes, ahead);
        }
        AddQuads<kCount, kChains>(group, part, rows_.quants[0] + k, acc);
      }
      for (int i = 0; i < kWide; ++i) {
        for (int r = kCount; r < kChains * kCount; ++r) {
          acc[i][r % kCount] = Isa::AddInts(acc[i][r % kCount], acc[i][r]);
        }
        for (int r = 0; r < kCount; ++r) {
          Isa::StoreInts(acc[i][r], dots[i][r] + part * Isa::kPartOutputs);
        }
      }
    }
  }

  const ActivationRows& input_;
  Following following_ = {};
  int64_t due_ = 0;      // Lines of it that this tile fetches.
  int64_t copied_ = -1;  // The first of the rows that lie in rows_.
  Int8Rows rows_;
  alignas(64) int32_t dots_[kPanels][kRows][kPanelRows];
};

template <typename Dots>
void LinearInt8(const LinearCall& call) {
  Dots products(*call.weights, *call.input);
  // Copies: a store of outputs might change what a reference leads to.
  const Panels panels = products.panels;
  const float* scales = call.input->scales;
  const int32_t* sums = call.input->sums;
  float* outputs = call.output;
  const int64_t stride = call.output_stride;
  products.ForEach(
      call, [=](int64_t panel, int64_t row, int64_t count,
                RowDots dots) __attribute__((always_inline)) {
        const auto* table = reinterpret_cast<const float*>(panels.data + panel * panels.bytes);
        const int64_t present = OutputsOf(panels, panel);
        float* output = outputs + row * stride + panel * kPanelRows;
        for (int64_t r = 0; r < count; ++r, output += stride) {
          Dots::Scaled(table, scales[row + r], dots[r], -Dots::kOffset * sums[row + r])
              .StoreOutputs(output, present);
        }
      });
}

template <typename Dots>
void RowDotsInt8(const LeafLinearCall& call) {
  Dots products(*call.weights, *call.input);
  const Panels panels = products.panels;
  const int32_t* sums = call.input->sums;
  int64_t* outputs = call.output;
  const int64_t stride = call.output_stride;
  products.ForEach(
      call, [=](int64_t panel, int64_t row, int64_t count, RowDots dots)
                __attribute__((always_inline)) {
                  const int64_t present = OutputsOf(panels, panel);
                  int64_t* output = outputs + row * stride + panel * kPanelRows;
                  for (int64_t r = 0; r < count; ++r, output += stride) {
                    // Modulo 2^32: only the whole of it fits.
                    const auto start = static_cast<uint32_t>(-Dots::kOffset * sums[row + r]);
                    const auto widen = [&](int64_t columns) __attribute__((always_inline)) {
                      for (int64_t i = 0; i < columns; ++i) {
                        output[i] = static_cast<int32_t>(static_cast<uint32_t>(dots[r][i]) + start);
                      }
                    };
                    present == kPanelRows ? widen(kPanelRows) : widen(present);
                  }
                });
}

}  // namespace
}  // namespace shoal::cpu
