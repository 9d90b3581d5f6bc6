// The reference for every row operation: the contract's order spelled out one element at a time.

#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/cpu/quantize/quantize.h"
#include "kernels/cpu/rows/rows.h"
#include "kernels/format/half.h"
#include "kernels/math/scalar.h"

namespace shoal::cpu {
namespace {

void Rotate(float& x0, float& x1, float c, float s) {
  const float y0 = __builtin_fmaf(x0, c, -(x1 * s));
  const float y1 = __builtin_fmaf(x0, s, x1 * c);
  x0 = y0;
  x1 = y1;
}

void RmsNorm(const float* x, const float* weight, float epsilon, int64_t cols, float* y) {
  const float total = math::RowSumSquares({x, static_cast<size_t>(cols)});
  const float mean = total / static_cast<float>(cols);
  const float r = 1.0f / std::sqrt(mean + epsilon);
  for (int64_t i = 0; i < cols; ++i) y[i] = (x[i] * r) * weight[i];
}

void RopeAdjacent(float* head, const float* cos, const float* sin, int64_t head_dim) {
  for (int64_t i = 0; i < head_dim / 2; ++i) Rotate(head[2 * i], head[2 * i + 1], cos[i], sin[i]);
}

void RopeHalfSplit(float* head, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) Rotate(head[i], head[i + half], cos[i], sin[i]);
}

void SiluMul(const float* gate, const float* up, int64_t cols, float* y) {
  for (int64_t i = 0; i < cols; ++i) y[i] = math::Silu(gate[i]) * up[i];
}

void AddFixed(const int64_t* sum, int64_t cols, float* residual) {
  for (int64_t i = 0; i < cols; ++i) residual[i] = residual[i] + math::FromFixed(sum[i]);
}

int64_t AddDots(const int64_t* dots, const PackedMatrix& weights, float scale, float* residual) {
  int64_t invalid = 0;
  for (int64_t o = 0; o < weights.rows; ++o) {
    float d;
    std::memcpy(&d, weights.panel(o / kPanelRows) + 4 * (o % kPanelRows), sizeof(d));
    const auto dot = static_cast<float>(static_cast<int32_t>(dots[o]));
    const float y = 0.0f + std::fma(scale * d, dot, 0.0f);
    // Not `>=`: a NaN must count as invalid.
    if (!(std::fabs(y) < 0x1p30f)) ++invalid;
    residual[o] = residual[o] + y;
  }
  return invalid;
}

// Rounds `value` to the cache's dtype at element `index` of `cells`. True if it became infinite or
// NaN.
bool StoreElement(KvDType dtype, float value, int64_t index, std::byte* cells) {
  float stored = value;
  std::byte* cell = cells + index * ElementBytes(dtype);
  if (dtype == KvDType::kF32) {
    std::memcpy(cell, &value, sizeof(value));
  } else {
    const bool is_half = dtype == KvDType::kF16;
    const uint16_t bits = is_half ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(cell, &bits, sizeof(bits));
    stored = is_half ? F16ToF32(bits) : BF16ToF32(bits);
  }
  return (std::bit_cast<uint32_t>(stored) & 0x7F800000) == 0x7F800000;
}

// Quantises a key or value, `stride` bytes apart. Result: how many elements are not finite.
int64_t QuantizeElements(const float* x, int64_t count, int64_t stride, std::byte* cells,
                         float* scale) {
  std::vector<int8_t> quants(count);
  int32_t sum = 0;
  kQuantizeScalar.groups(x, count, count, quants.data(), scale, &sum);
  int64_t overflows = 0;
  for (int64_t i = 0; i < count; ++i) {
    cells[i * stride] = static_cast<std::byte>(quants[i]);
    overflows += std::isfinite(x[i]) ? 0 : 1;
  }
  return overflows;
}

int64_t StoreKv(KvDType dtype, const float* key, const float* value, int64_t head_dim, int64_t slot,
                std::byte* block) {
  if (dtype == KvDType::kInt8) {
    float scales[2];
    const int64_t overflows =
        QuantizeElements(key, head_dim, kKvBlockTokens, block + slot, &scales[0]) +
        QuantizeElements(value, head_dim, 1, block + (kKvBlockTokens + slot) * head_dim,
                         &scales[1]);
    for (int64_t i = 0; i < 2; ++i) {
      std::memcpy(block + KvScaleOffset(dtype, head_dim) +
                      (i * kKvBlockTokens + slot) * KvScaleBytes(dtype),
                  &scales[i], sizeof(scales[i]));
    }
    return overflows;
  }
  std::byte* values = block + kKvBlockTokens * head_dim * ElementBytes(dtype);
  int64_t overflows = 0;
  for (int64_t i = 0; i < head_dim; ++i) {
    overflows += StoreElement(dtype, key[i], i * kKvBlockTokens + slot, block) ? 1 : 0;
    overflows += StoreElement(dtype, value[i], slot * head_dim + i, values) ? 1 : 0;
  }
  return overflows;
}

}  // namespace

constinit const RowKernels kRowsScalar = {.rms_norm = RmsNorm,
                                          .rope_adjacent = RopeAdjacent,
                                          .rope_half_split = RopeHalfSplit,
                                          .silu_mul = SiluMul,
                                          .add_fixed = AddFixed,
                                          .add_dots = AddDots,
                                          .store_kv = StoreKv};

}  // namespace shoal::cpu
