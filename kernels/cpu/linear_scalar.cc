#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/linear_variants.h"
#include "kernels/format/half.h"
#include "kernels/math/scalar.h"

// The linear layers as the contract spells them out, one operation at a time. Every other row is
// tested against these bits.

namespace shoal::cpu {
namespace {

// What one output row of activations brings to a sum.
struct InputRow {
  const float* values;
  const int8_t* quants;
  const float* scales;
  const int32_t* sums;
};

InputRow RowOf(const ActivationRows& input, int64_t row) {
  const int64_t groups = input.cols / 32;
  const bool quantised = input.quants != nullptr;
  return {.values = input.values == nullptr ? nullptr : input.values + row * input.cols,
          .quants = quantised ? input.quants + row * input.cols : nullptr,
          .scales = quantised ? input.scales + row * groups : nullptr,
          .sums = quantised ? input.sums + row * groups : nullptr};
}

float LoadF16(const std::byte* source) {
  uint16_t bits;
  std::memcpy(&bits, source, 2);
  return F16ToF32(bits);
}

// The exact dot product of one output's group with the activations' quants.
template <DType kType>
int32_t GroupDot(const std::byte* group, int64_t lane, const int8_t* quants) {
  int32_t dot = 0;
  for (int64_t k = 0; k < 32; ++k) {
    if constexpr (kType == DType::kQ8_0) {
      const auto byte = std::to_integer<int32_t>(group[64 * (k / 4) + 4 * lane + k % 4]);
      dot += (byte - 128) * quants[k];
    } else {
      const auto byte = std::to_integer<int32_t>(group[64 * (k % 16 / 4) + 4 * lane + k % 4]);
      const int32_t nibble = k < 16 ? byte & 15 : byte >> 4;
      dot += (kType == DType::kQ4_0 ? nibble - 8 : nibble) * quants[k];
    }
  }
  return dot;
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
float BlockSum(const std::byte* panel, int64_t lane, const InputRow& x, int64_t k_begin,
               int64_t k_end) {
  constexpr int64_t kGroup = GroupSize(kType);
  float acc = 0.0f;
  for (int64_t g = k_begin / kGroup; g < k_end / kGroup; ++g) {
    const std::byte* group = panel + g * PackedGroupBytes(kType);
    if constexpr (kGroup == 1) {
      acc = std::fma(LoadWeight<kType>(group + PackedGroupBytes(kType) / 16 * lane), x.values[g],
                     acc);
    } else {
      const std::byte* factors = group + (kType == DType::kQ8_0 ? 512 : 256) + 2 * lane;
      const int32_t dot = GroupDot<kType>(group, lane, x.quants + g * kGroup);
      acc = std::fma(x.scales[g] * LoadF16(factors), static_cast<float>(dot), acc);
      if constexpr (kType == DType::kQ4_1) {
        acc = std::fma(LoadF16(factors + 32), x.scales[g] * static_cast<float>(x.sums[g]), acc);
      }
    }
  }
  return acc;
}

template <DType kType>
float LeafSum(const std::byte* panel, int64_t lane, const InputRow& x, int64_t k_begin,
              int64_t k_end) {
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
    const InputRow x = RowOf(*call.input, row);
    for (int64_t panel = call.panel_begin; panel < call.panel_end; ++panel) {
      float* output = call.output + row * call.output_stride + panel * kPanelRows;
      for (int64_t lane = 0; lane < OutputsOf(weights, panel); ++lane) {
        output[lane] = LeafSum<kType>(weights.panel(panel), lane, x, 0, weights.cols);
      }
    }
  }
}

template <DType kType>
void LeafLinear(const LeafLinearCall& call) {
  const PackedMatrix& weights = *call.weights;
  for (int64_t row = call.row_begin; row < call.row_end; ++row) {
    const InputRow x = RowOf(*call.input, row);
    int64_t invalid = 0;
    for (int64_t panel = call.panel_begin; panel < call.panel_end; ++panel) {
      int64_t* output = call.output + row * call.output_stride + panel * kPanelRows;
      for (int64_t lane = 0; lane < OutputsOf(weights, panel); ++lane) {
        uint64_t sum = 0;
        for (int64_t k = 0; k < weights.cols; k += call.leaf_cols) {
          const int64_t leaf_end = std::min(k + call.leaf_cols, weights.cols);
          const float y = LeafSum<kType>(weights.panel(panel), lane, x, k, leaf_end);
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

}  // namespace

void LinearF32Scalar(const LinearCall& call) { Linear<DType::kF32>(call); }
void LinearF16Scalar(const LinearCall& call) { Linear<DType::kF16>(call); }
void LinearBF16Scalar(const LinearCall& call) { Linear<DType::kBF16>(call); }
void LinearQ8_0Scalar(const LinearCall& call) { Linear<DType::kQ8_0>(call); }
void LinearQ4_0Scalar(const LinearCall& call) { Linear<DType::kQ4_0>(call); }
void LinearQ4_1Scalar(const LinearCall& call) { Linear<DType::kQ4_1>(call); }
void LeafLinearF32Scalar(const LeafLinearCall& call) { LeafLinear<DType::kF32>(call); }
void LeafLinearF16Scalar(const LeafLinearCall& call) { LeafLinear<DType::kF16>(call); }
void LeafLinearBF16Scalar(const LeafLinearCall& call) { LeafLinear<DType::kBF16>(call); }
void LeafLinearQ8_0Scalar(const LeafLinearCall& call) { LeafLinear<DType::kQ8_0>(call); }
void LeafLinearQ4_0Scalar(const LeafLinearCall& call) { LeafLinear<DType::kQ4_0>(call); }
void LeafLinearQ4_1Scalar(const LeafLinearCall& call) { LeafLinear<DType::kQ4_1>(call); }

}  // namespace shoal::cpu
