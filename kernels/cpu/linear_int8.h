#pragma once

// INT8 linear layers: an output has one scale and a row of activations another, so all that is
// computed per weight is exact, and a product's float work is once per output.
//
// Written over what computes the dot products (a Dots), of which there is one with vectors here and
// one with tiles in linear_amx_int8.h:
//   Lanes                          16 floats, as linear_tiles.h has them
//   kOffset                        what weights have too much: they are packed plus 128
//   Dots(weights, input), panels   panels: the matrix's, as TabledPanels gives them
//   ForEach(call, sink)            sink(panel, row, dots[16]) for all that a call asks for
//   Scaled(table, scale, dots, start)   Lanes: +0 + fma(scale * table[o], float(dots + start), +0)
//
// Included only with the same care as linear_panels.h.

#include "kernels/cpu/linear_groups.h"

namespace shoal::cpu {
namespace {

// What an Isa of linear_groups.h does with up to eight rows and four panels at a time.
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
    ForTiles(
        call, *this, [&]() __attribute__((always_inline)) {
          if (row_count == 1) {
            for (int64_t p = 0; p < panel_count; ++p) {
              DotRow(Groups(p), input_.quants + row * panels.cols, dots_[0][0]);
              sink(panel + p, row, dots_[0][0]);
            }
            return;
          }
          SumDots();
          for (int64_t p = 0; p < panel_count; ++p) {
            for (int r = 0; r < row_count; ++r) sink(panel + p, row + r, dots_[p][r]);
          }
        });
  }

  Panels panels;

 private:
  using Kernel = GroupKernel<Isa, DType::kINT8>;
  using Ints = typename Isa::Ints;

  SHOAL_INLINE const uint8_t* Groups(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes + Kernel::kTableEntry;
  }

  // The whole of K for a single row, in registers.
  SHOAL_INLINE void DotRow(const uint8_t* groups, const int8_t* quants, int32_t* dots) {
    constexpr int kChains = 4;
    const Ahead ahead = Lanes::StreamAhead(1);
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[kChains] = {Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0)};
      for (int64_t k = 0; k < panels.cols; k += Kernel::kGroup) {
        const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
        if (part == 0) Prefetch<Kernel::kGroupBytes>(group, ahead);
        Kernel::template AddQuads<1, kChains>(group, part, quants + k, acc);
      }
      const Ints dot = Isa::AddInts(Isa::AddInts(acc[0], acc[1]), Isa::AddInts(acc[2], acc[3]));
      Isa::StoreInts(dot, dots + part * Isa::kPartOutputs);
    }
  }

  SHOAL_INLINE void SumDots() {
    __builtin_memset(dots_, 0, sizeof(dots_));
    for (int64_t k = 0; k < panels.cols; k += kBlockK) {
      const int64_t count = Smaller(kBlockK, panels.cols - k);
      rows_.LoadQuants(input_, row, row_count, k, count);
      for (int64_t p = 0; p < panel_count; ++p) {
        const uint8_t* groups = Groups(p) + k / Kernel::kGroup * Kernel::kGroupBytes;
        switch (row_count) {
          case 8:
            AddBlock<8>(groups, count, dots_[p]);
            break;
          case 4:
            AddBlock<4>(groups, count, dots_[p]);
            break;
          default:
            AddBlock<2>(groups, count, dots_[p]);
        }
      }
    }
  }

  // dots[r] += the dot products of `count` k.
  template <int kCount>
  __attribute__((noinline)) void AddBlock(const uint8_t* groups, int64_t count,
                                          int32_t (*dots)[kPanelRows]) {
    // One sum's additions wait for each other, so those of few rows are dealt to several.
    constexpr int kChains = kCount == 2 ? 2 : 1;
    const Ahead ahead = Lanes::StreamAhead(kCount);
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[kChains * kCount];
      for (int r = 0; r < kCount; ++r) {
        acc[r] = Isa::LoadInts(dots[r] + part * Isa::kPartOutputs);
      }
      for (int i = kCount; i < kChains * kCount; ++i) acc[i] = Isa::FillInts(0);
      for (int64_t k = 0; k < count; k += Kernel::kGroup) {
        const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
        if (part == 0) Prefetch<Kernel::kGroupBytes>(group, ahead);
        Kernel::template AddQuads<kCount, kChains>(group, part, rows_.quants[0] + k, acc);
      }
      for (int i = kCount; i < kChains * kCount; ++i) {
        acc[i % kCount] = Isa::AddInts(acc[i % kCount], acc[i]);
      }
      for (int r = 0; r < kCount; ++r) {
        Isa::StoreInts(acc[r], dots[r] + part * Isa::kPartOutputs);
      }
    }
  }

  const ActivationRows& input_;
  GroupRows rows_;
  alignas(64) int32_t dots_[kPanels][kRows][kPanelRows];
};

template <typename Dots>
void LinearInt8(const LinearCall& call) {
  Dots products(*call.weights, *call.input);
  const Panels& panels = products.panels;
  products.ForEach(
      call, [&](int64_t panel, int64_t row, const int32_t* dots) __attribute__((always_inline)) {
        const auto* table = reinterpret_cast<const float*>(panels.data + panel * panels.bytes);
        Dots::Scaled(table, call.input->scales[row], dots, -Dots::kOffset * call.input->sums[row])
            .StoreOutputs(call.output + row * call.output_stride + panel * kPanelRows,
                          OutputsOf(panels, panel));
      });
}

template <typename Dots>
void RowDotsInt8(const LeafLinearCall& call) {
  Dots products(*call.weights, *call.input);
  const Panels& panels = products.panels;
  products.ForEach(
      call, [&](int64_t panel, int64_t row, const int32_t* dots) __attribute__((always_inline)) {
        int64_t* output = call.output + row * call.output_stride + panel * kPanelRows;
        // Modulo 2^32: only the whole of it fits.
        const auto start = static_cast<uint32_t>(-Dots::kOffset * call.input->sums[row]);
        const auto widen = [&](int64_t count) __attribute__((always_inline)) {
          for (int64_t i = 0; i < count; ++i) {
            output[i] = static_cast<int32_t>(static_cast<uint32_t>(dots[i]) + start);
          }
        };
        const int64_t count = OutputsOf(panels, panel);
        count == kPanelRows ? widen(kPanelRows) : widen(count);
      });
}

}  // namespace
}  // namespace shoal::cpu
