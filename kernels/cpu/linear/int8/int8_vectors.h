#pragma once

// INT8 dot products with vectors, as int8_layer.h wants them. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/linear/groups/group_tile.h"
#include "kernels/cpu/linear/int8/int8_dots.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/int8/interleave_rows.h"

namespace shoal::cpu {
namespace {

// Up to eight rows and Isa::kInt8Panels panels in registers, over the whole of K.
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

  // Weights that are still to be brought to L2 while `groups` groups of those at hand
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
        DotRow<Isa>(Groups(p), input_.quants + row * panels.cols, panels.cols,
                    -Kernel::kOffset * input_.sums[row], dots[0]);
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

  // Hands on the dot products of kCount interleaved rows with kWide panels, from registers where a
  // panel is one vector. The sink is a copy: its stores cannot change what it holds.
  template <int kCount, int kWide, typename Sink>
  __attribute__((noinline)) void AddRows(const int8_t* rows, const Sink sink) {
    // One sum's additions wait for each other, so those of few rows are spread over several.
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
        AddQuads<Isa, kCount, kChains>(group, panels.bytes, part, rows + k * kCount, acc);
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
  alignas(64) int8_t kept_[kKeptBytes];  // Interleaved rows, tile after tile.
};

}  // namespace
}  // namespace shoal::cpu
