#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/format/half.h"
#include "kernels/math/scalar.h"

// The linear layers as the contract spells them out, one operation at a time. Every other variant
// is tested against these bits.

namespace shoal::cpu {
namespace {

// What one output row of activations brings to a sum.
struct InputRow {
  const float* values;
  const int8_t* quants;
  const float* scales;
  const int32_t* sums;
};

template <DType kType>
InputRow RowOf(const ActivationRows& input, int64_t row) {
  const int64_t groups = QuantizesWholeRows(kType) ? 1 : input.cols / GroupSize(kType);
  const bool quantised = input.quants != nullptr;
  return {.values = input.values == nullptr ? nullptr : input.values + row * input.cols,
          .quants = quantised ? input.quants + row * input.cols : nullptr,
          .scales = quantised ? input.scales + row * groups : nullptr,
          .sums = quantised ? input.sums + row * groups : nullptr};
}

// A panel's parts.
struct Panel {
  const std::byte* table;   // Of blocks' factors; empty in most formats.
  const std::byte* groups;  // Groups of k, ascending.
  int64_t block_offset;
};

Panel PanelOf(const PackedMatrix& weights, int64_t index) {
  const std::byte* panel = weights.panel(index);
  return {.table = panel,
          .groups = panel + PackedTableBytes(weights.dtype, weights.cols),
          .block_offset = weights.block_offset};
}

float LoadF16(const std::byte* source) {
  uint16_t bits;
  std::memcpy(&bits, source, 2);
  return F16ToF32(bits);
}

// The integer weight k of output `lane` in a group.
template <DType kType>
int32_t WeightAt(const std::byte* group, int64_t lane, int64_t k) {
  constexpr int64_t kBits = PackedFactsOf(kType).bits;
  constexpr int64_t kUnit = GroupSize(kType) < 32 ? GroupSize(kType) : 32;
  constexpr int64_t kHalf = kUnit / 2;
  group += k / kUnit * (kPanelRows * kUnit * kBits / 8);
  k %= kUnit;
  const auto byte_at = [&](int64_t vector) {
    return std::to_integer<int32_t>(group[64 * vector + 4 * lane + k % 4]);
  };
  if constexpr (kBits == 8) {
    return byte_at(k / 4) - QuantOffset(kType);
  } else {
    const int32_t both = byte_at(k % kHalf / 4);
    const int32_t nibble = k < kHalf ? both & 15 : both >> 4;
    if constexpr (kType == DType::kIQ4_NL) return kIq4NlValues[nibble];
    if constexpr (kBits == 4) return nibble - QuantOffset(kType);
    constexpr int32_t kUpperBits = kBits - 4;
    const int32_t upper = byte_at(kHalf / 4) >> (kUpperBits * (k / 4)) & ((1 << kUpperBits) - 1);
    return nibble + 16 * upper - QuantOffset(kType);
  }
}

// The exact dot product of one output's group with the activations' quants.
template <DType kType>
int32_t GroupDot(const std::byte* group, int64_t lane, const int8_t* quants) {
  int32_t dot = 0;
  for (int64_t k = 0; k < GroupSize(kType); ++k) {
    dot += WeightAt<kType>(group, lane, k) * quants[k];
  }
  return dot;
}

// An output's effective scale and minimum in group `g`.
struct Factors {
  float scale;
  float minimum;
};

template <DType kType>
Factors FactorsOf(const Panel& panel, int64_t g, int64_t lane) {
  constexpr int64_t kQuantBytes = kPanelRows * GroupSize(kType) * PackedFactsOf(kType).bits / 8;
  constexpr bool kHasMinimum = FactorOffsetsOf(kType).minimum >= 0;
  const std::byte* own = panel.groups + g * PackedGroupBytes(kType) + kQuantBytes;
  if constexpr (PackedFactsOf(kType).block_factors == 0) {
    const std::byte* half = own + 2 * lane;
    return {LoadF16(half), kHasMinimum ? LoadF16(half + 2 * kPanelRows) : 0.0f};
  } else {
    const int64_t block = (panel.block_offset + g * GroupSize(kType)) / BlockWeights(kType);
    const std::byte* half =
        panel.table + block * kPanelRows * PackedFactsOf(kType).block_factors + 2 * lane;
    const auto scale = std::to_integer<uint8_t>(own[lane]);
    if constexpr (!kHasMinimum) {
      return {LoadF16(half) * static_cast<float>(static_cast<int8_t>(scale)), 0.0f};
    } else {
      const auto minimum = std::to_integer<uint8_t>(own[kPanelRows + lane]);
      return {LoadF16(half) * static_cast<float>(scale),
              -(LoadF16(half + 2 * kPanelRows) * static_cast<float>(minimum))};
    }
  }
}

template <DType kType>
float LoadWeight(const std::byte* element) {
  if constexpr (kType == DType::kF32) {
    float value;
    std::memcpy(&value, element, 4);
    return value;
  } else if constexpr (kType == DType::kF16) {
    return LoadF16(element);
  } else {
    uint16_t bits;
    std::memcpy(&bits, element, 2);
    return BF16ToF32(bits);
  }
}

// The sum over k in [k_begin, k_end), at most one block, of output `lane` of a panel.
template <DType kType>
float BlockSum(const Panel& panel, int64_t lane, const InputRow& x, int64_t k_begin,
               int64_t k_end) {
  constexpr int64_t kGroup = GroupSize(kType);
  float acc = 0.0f;
  for (int64_t g = k_begin / kGroup; g < k_end / kGroup; ++g) {
    const std::byte* group = panel.groups + g * PackedGroupBytes(kType);
    if constexpr (kGroup == 1) {
      acc = std::fma(LoadWeight<kType>(group + PackedGroupBytes(kType) / 16 * lane), x.values[g],
                     acc);
    } else {
      const Factors factors = FactorsOf<kType>(panel, g, lane);
      const int32_t dot = GroupDot<kType>(group, lane, x.quants + g * kGroup);
      acc = std::fma(x.scales[g] * factors.scale, static_cast<float>(dot), acc);
      if constexpr (FactorOffsetsOf(kType).minimum >= 0) {
        acc = std::fma(factors.minimum, x.scales[g] * static_cast<float>(x.sums[g]), acc);
      }
    }
  }
  return acc;
}

// Formats that quantise whole rows: the exact dot product.
template <DType kType>
int32_t RowDot(const Panel& panel, int64_t lane, const InputRow& x, int64_t cols) {
  int32_t dot = 0;
  for (int64_t k = 0; k < cols; k += GroupSize(kType)) {
    const std::byte* group = panel.groups + k / GroupSize(kType) * PackedGroupBytes(kType);
    dot += GroupDot<kType>(group, lane, x.quants + k);
  }
  return dot;
}

// The sum over [k_begin, k_end), which is a leaf or, in formats that quantise whole rows, all of K.
template <DType kType>
float LeafSum(const Panel& panel, int64_t lane, const InputRow& x, int64_t k_begin, int64_t k_end) {
  if constexpr (QuantizesWholeRows(kType)) {
    float scale;
    std::memcpy(&scale, panel.table + 4 * lane, 4);
    const auto dot = static_cast<float>(RowDot<kType>(panel, lane, x, k_end));
    return 0.0f + std::fma(x.scales[0] * scale, dot, 0.0f);
  }
  float result = 0.0f;
  for (int64_t k = k_begin; k < k_end; k += kBlockK) {
    const int64_t block_end = k + kBlockK < k_end ? k + kBlockK : k_end;
    result += BlockSum<kType>(panel, lane, x, k, block_end);
  }
  return result;
}

int64_t OutputsOf(const PackedMatrix& weights, int64_t panel) {
  const int64_t left = weights.rows - panel * kPanelRows;
  return left < kPanelRows ? left : kPanelRows;
}

template <DType kType>
void Linear(const LinearCall& call) {
  const PackedMatrix& weights = *call.weights;
  for (int64_t row = call.row_begin; row < call.row_end; ++row) {
    const InputRow x = RowOf<kType>(*call.input, row);
    for (int64_t panel = call.panel_begin; panel < call.panel_end; ++panel) {
      float* output = call.output + row * call.output_stride + panel * kPanelRows;
      for (int64_t lane = 0; lane < OutputsOf(weights, panel); ++lane) {
        output[lane] = LeafSum<kType>(PanelOf(weights, panel), lane, x, 0, weights.cols);
      }
    }
  }
}

template <DType kType>
void LeafLinear(const LeafLinearCall& call) {
  const PackedMatrix& weights = *call.weights;
  for (int64_t row = call.row_begin; row < call.row_end; ++row) {
    const InputRow x = RowOf<kType>(*call.input, row);
    int64_t invalid = 0;
    for (int64_t panel = call.panel_begin; panel < call.panel_end; ++panel) {
      int64_t* output = call.output + row * call.output_stride + panel * kPanelRows;
      for (int64_t lane = 0; lane < OutputsOf(weights, panel); ++lane) {
        uint64_t sum = 0;
        for (int64_t k = 0; k < weights.cols; k += call.leaf_cols) {
          const int64_t leaf_end = std::min(k + call.leaf_cols, weights.cols);
          const float y = LeafSum<kType>(PanelOf(weights, panel), lane, x, k, leaf_end);
          // Not `>=`: a NaN must count as invalid.
          if (std::fabs(y) < call.limit) {
            sum += static_cast<uint64_t>(math::ToFixed(y));
          } else {
            ++invalid;
          }
        }
        output[lane] = static_cast<int64_t>(sum);
      }
    }
    if (invalid != 0) __atomic_fetch_add(&call.invalid[row], invalid, __ATOMIC_RELAXED);
  }
}

// Instead of leaves, for formats that quantise whole rows.
template <DType kType>
void RowDots(const LeafLinearCall& call) {
  const PackedMatrix& weights = *call.weights;
  for (int64_t row = call.row_begin; row < call.row_end; ++row) {
    const InputRow x = RowOf<kType>(*call.input, row);
    for (int64_t panel = call.panel_begin; panel < call.panel_end; ++panel) {
      int64_t* output = call.output + row * call.output_stride + panel * kPanelRows;
      for (int64_t lane = 0; lane < OutputsOf(weights, panel); ++lane) {
        output[lane] = RowDot<kType>(PanelOf(weights, panel), lane, x, weights.cols);
      }
    }
  }
}

template <DType kType>
struct Format {
  static void Compute(const LinearCall& call) { Linear<kType>(call); }
  static void Compute(const LeafLinearCall& call) {
    if constexpr (QuantizesWholeRows(kType)) {
      RowDots<kType>(call);
    } else {
      LeafLinear<kType>(call);
    }
  }
};

template <size_t... kTypes>
consteval LinearKernels AllFormats(std::index_sequence<kTypes...>) {
  return KernelsOf<Format, static_cast<DType>(kTypes)...>();
}

}  // namespace

constinit const LinearKernels kLinearScalar = AllFormats(std::make_index_sequence<kDTypeCount>());

}  // namespace shoal::cpu
