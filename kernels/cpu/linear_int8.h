#pragma once

// INT8 linear layers: an output has one scale and a row of activations another, so all that is
// computed per weight is exact, and a product's float work is once per output.
//
// Written over what computes the dot products (a Dots), of which there is one with vectors here and
// one with tiles in linear_amx_int8.h:
//   Lanes                          16 floats, as linear_tiles.h has them
//   kOffset                        what weights have too much in the dot products
//   Dots(weights, input), panels   panels: the matrix's, as TabledPanels gives them
//   ForEach(call, sink)            sink(panel, first row, rows, dots[row][16]) for all that a call
//                                  asks for
//   Scaled(table, scale, dots, start)   Lanes: +0 + fma(scale * table[o], float(dots + start), +0)
//
// Included only with the same care as linear_panels.h.

#include <immintrin.h>

#include <type_traits>

#include "kernels/cpu/linear_groups.h"

namespace shoal::cpu {
namespace {

// A row's dot products with the outputs of a panel, and those of the rows that follow.
using RowDots = const int32_t (*)[kPanelRows];

// to[k / 4][row][k % 4] = the values of kCount rows, each of `cols`, a multiple of 16: quads of all
// rows lie side by side, and one register addresses them.
template <int kCount>
SHOAL_INLINE void InterleaveRows(const int8_t* rows, int64_t cols, int8_t* to) {
  const auto load = [=](int r, int64_t k) __attribute__((always_inline)) {
    return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * cols + k)));
  };
  const auto store = [=](__m128 quads, int64_t k, int r) __attribute__((always_inline)) {
    _mm_storeu_ps(reinterpret_cast<float*>(to + k * kCount + 4 * r), quads);
  };
  for (int64_t k = 0; k < cols; k += 16) {
    if constexpr (kCount == 2) {
      store(_mm_unpacklo_ps(load(0, k), load(1, k)), k, 0);
      store(_mm_unpackhi_ps(load(0, k), load(1, k)), k + 8, 0);
    } else {
#pragma GCC unroll 2
      for (int r = 0; r < kCount; r += 4) {
        __m128 x[4] = {load(r, k), load(r + 1, k), load(r + 2, k), load(r + 3, k)};
        _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) store(x[i], k + 4 * i, r);
      }
    }
  }
}

// What an Isa of linear_groups.h does with up to eight rows and Isa::kInt8Panels panels in
// registers, over the whole of K.
template <typename Isa>
class Int8Vectors : public GroupPlace {
 public:
  using Lanes = typename Isa::Lanes;
  static constexpr int32_t kOffset = 0;  // Sums begin with what weights have too much.

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

  // The rows that there is room to keep meet all panels, then those that follow. Single panels need
  // no Follow: their weights come as they lie in memory.
  template <typename Call, typename Sink>
  SHOAL_INLINE void ForEach(const Call& call, Sink sink) {
    const int64_t step = call.row_end - call.row_begin <= kStreamedRows ? 1 : kTogether;
    const int64_t room = kKeptBytes / panels.cols;
    const int64_t rows_max = room >= kRows ? room / kRows * kRows : room > 1 ? room : 1;
    for (int64_t begin = call.row_begin; begin < call.row_end; begin += rows_max) {
      const int64_t end = Smaller(begin + rows_max, call.row_end);
      KeepRows(begin, end);
      for (int64_t first = call.panel_begin; first < call.panel_end; first += step) {
        const int64_t next = Smaller(first + step, call.panel_end);
        if (step > 1) Follow(next, Smaller(next + step, call.panel_end), end - begin);
        for (int64_t r = begin; r < end; r += row_count) {
          Place(r, end - r, first, next - first);
          FetchOutputs(call, row, row_count, panel, panel_count);
          AddTile(kept_ + (row - begin) * panels.cols, sink);
        }
      }
    }
  }

  Panels panels;

 private:
  using Kernel = GroupKernel<Isa, DType::kINT8>;
  using Ints = typename Isa::Ints;

  static constexpr int kTogether = Isa::kInt8Panels;
  static_assert(kTogether <= 2);

  // Weights that are still to be brought to the second cache while `groups` groups of those at hand
  // meet rows.
  struct Following {
    const uint8_t* data;
    int64_t lines;
    int64_t groups;
  };

  SHOAL_INLINE const uint8_t* Groups(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes + Kernel::kTableEntry;
  }

  // Calls visit(number of rows of the tile as a constant), or for a single row does nothing.
  template <typename Visit>
  SHOAL_INLINE void WithRows(Visit visit) {
    switch (row_count) {
      case 8:
        return visit(std::integral_constant<int, 8>());
      case 4:
        return visit(std::integral_constant<int, 4>());
      case 2:
        return visit(std::integral_constant<int, 2>());
    }
  }

  SHOAL_INLINE void KeepRows(int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r += row_count) {
      Place(r, end - r, 0, 0);
      WithRows([&](auto count) __attribute__((always_inline)) {
        InterleaveRows<count()>(input_.quants + row * panels.cols, panels.cols,
                                kept_ + (row - begin) * panels.cols);
      });
    }
  }

  // Panels [first, last) follow those that `rows` rows are about to meet.
  SHOAL_INLINE void Follow(int64_t first, int64_t last, int64_t rows) {
    following_.data = panels.data + first * panels.bytes;
    following_.lines = (last - first) * panels.bytes / 64;
    following_.groups = (rows + kRows - 1) / kRows * (panels.cols / Kernel::kGroup);
  }

  template <typename Sink>
  SHOAL_INLINE void AddTile(const int8_t* rows, const Sink& sink) {
    if (row_count == 1) {
      for (int64_t p = 0; p < panel_count; ++p) {
        alignas(64) int32_t dots[1][kPanelRows];
        DotRow(Groups(p), input_.quants + row * panels.cols, dots[0]);
        sink(panel + p, row, 1, dots);
      }
      return;
    }
    WithRows([&](auto count) __attribute__((always_inline)) {
      panel_count == kTogether ? AddRows<count(), kTogether>(rows, sink)
                               : AddRows<count(), 1>(rows, sink);
    });
  }

  // Where the sums of a row of the tile begin.
  SHOAL_INLINE Ints StartOf(int64_t tile_row) const {
    return Isa::FillInts(-Kernel::kOffset * input_.sums[row + tile_row]);
  }

  // acc[panel][row] += dot products of a group with kCount interleaved rows, with a row's additions
  // dealt to kChains sums.
  template <int kCount, int kChains, int kWide>
  SHOAL_INLINE void AddQuads(const uint8_t* group, int part, const int8_t* quads,
                             Ints (&acc)[kWide][kChains * kCount]) const {
    group += 4 * Isa::kPartOutputs * part;
#pragma GCC unroll 8
    for (int v = 0; v < Kernel::kQuads; ++v, quads += 4 * kCount) {
      const auto weights = Isa::FromBiased(Isa::Load(group + 64 * v));
      Ints* dots = acc[0] + v % kChains * kCount;
      if constexpr (kWide == 2) {
        const auto second = Isa::FromBiased(Isa::Load(group + panels.bytes + 64 * v));
        Isa::template AddQuadTwice<kCount, 4, kChains * kCount>(weights, second, quads, dots);
      } else {
        Isa::template AddQuad<kCount, 4>(weights, quads, dots);
      }
    }
  }

  // dots[16] = the dot products of a single row.
  __attribute__((noinline)) void DotRow(const uint8_t* groups, const int8_t* quants,
                                        int32_t* dots) {
    constexpr int kChains = 4;
    const Ahead ahead = Lanes::StreamAhead(1);
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[1][kChains] = {{StartOf(0), Isa::FillInts(0), Isa::FillInts(0), Isa::FillInts(0)}};
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

  // Hands on the dot products of kCount interleaved rows with kWide panels, from registers where a
  // panel is one vector. The sink is a copy: its stores cannot change what it holds.
  template <int kCount, int kWide, typename Sink>
  __attribute__((noinline)) void AddRows(const int8_t* rows, const Sink sink) {
    // One sum's additions wait for each other, so those of few rows are dealt to several.
    constexpr int kChains = kCount == 2 ? 2 : 1;
    const Ahead ahead = Lanes::StreamAhead(kCount);
    const uint8_t* groups = Groups(0);
    const int64_t cols = panels.cols;
    const uint8_t* following = following_.data;
    const int64_t share = following_.lines > 0 ? (following_.lines - 1) / following_.groups + 1 : 0;
    alignas(64) int32_t dots[kWide][kCount][kPanelRows];
#pragma GCC unroll 2
    for (int part = 0; part < Isa::kParts; ++part) {
      Ints acc[kWide][kChains * kCount];
#pragma GCC unroll 2
      for (int i = 0; i < kWide; ++i) {
#pragma GCC unroll 8
        for (int r = 0; r < kChains * kCount; ++r) {
          acc[i][r] = r < kCount ? StartOf(r) : Isa::FillInts(0);
        }
      }
      int64_t k = 0;
      do {  // At least once: of a loop that may not run, GCC 12 makes copies of all sums.
        const uint8_t* group = groups + k / Kernel::kGroup * Kernel::kGroupBytes;
        if (part == 0) {
#pragma GCC unroll 2
          for (int i = 0; i < kWide; ++i) {
            Prefetch<Kernel::kGroupBytes>(group + i * panels.bytes, ahead);
          }
          for (int64_t line = 0; line < share; ++line, following += 64) {
            __builtin_prefetch(following, 0, 2);
          }
        }
        AddQuads<kCount, kChains>(group, part, rows + k * kCount, acc);
        k += Kernel::kGroup;
      } while (k < cols);
#pragma GCC unroll 2
      for (int i = 0; i < kWide; ++i) {
#pragma GCC unroll 8
        for (int r = kCount; r < kChains * kCount; ++r) {
          acc[i][r % kCount] = Isa::AddInts(acc[i][r % kCount], acc[i][r]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kCount; ++r) {
          Isa::StoreInts(acc[i][r], dots[i][r] + part * Isa::kPartOutputs);
        }
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < kWide; ++i) sink(panel + i, row, kCount, dots[i]);
    following_.lines -= (following - following_.data) / 64;
    following_.groups -= cols / Kernel::kGroup;
    following_.data = following;
  }

  const ActivationRows& input_;
  Following following_ = {};
  alignas(64) int8_t kept_[kKeptBytes];  // Interleaved rows, a tile's behind the tile's before it.
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
#pragma GCC unroll 8
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
#pragma GCC unroll 8
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
