#include "kernels/format/quantize_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/format/half.h"

// Each group is fitted by itself: a few ranges around the one that makes the largest weight the
// largest quant give candidate quants; the scale is the one that fits the best of them by least
// squares. Then scales are rounded to what the format stores, and the quants follow from the
// rounded ones, which can only lose less.

namespace shoal {
namespace {

constexpr int64_t kKGroups = 8;  // Of 32 in a block of 256.

float RoundF16(float x) { return F16ToF32(F32ToF16(x)); }

void StoreF16(float x, std::byte* to) {
  const uint16_t bits = F32ToF16(x);
  std::memcpy(to, &bits, 2);
}

// w = scale * q + minimum.
struct Fit {
  float scale = 0;
  float minimum = 0;
};

// To nearest even for |x| < 2^22: at 1.5 * 2^23 a float's last bit is worth one.
float Round(float x) {
  constexpr float kMagic = 0x1.8p23f;
  return (x + kMagic) - kMagic;
}

int32_t QuantOf(float weight, const Fit& fit, int32_t low, int32_t high) {
  if (fit.scale == 0) return std::clamp(0, low, high);
  const float q = (weight - fit.minimum) / fit.scale;
  return static_cast<int32_t>(
      Round(std::clamp(q, static_cast<float>(low), static_cast<float>(high))));
}

// What no f16 scale can tell from zero.
constexpr float kNothing = 0x1p-30f;

// Ranges that candidates try, as parts of the plain one: from a tenth too wide to one that clips.
constexpr float kRanges[] = {0.9f, 0.95f, 1.0f, 1.05f, 1.1f, 1.15f};

float Extreme(const float* weights, int64_t count) {
  float extreme = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (std::fabs(weights[i]) > std::fabs(extreme)) extreme = weights[i];
  }
  return extreme;
}

// w = scale * q with q in [low, high]; the scale may be negative.
float FitScale(const float* weights, int64_t count, int32_t low, int32_t high) {
  const float extreme = Extreme(weights, count);
  if (std::fabs(extreme) < kNothing) return 0;
  float best_gain = 0;
  float best_scale = 0;
  for (const float range : kRanges) {
    const float inverse = static_cast<float>(low) * range / extreme;
    float product = 0;
    float square = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float q = Round(
          std::clamp(weights[i] * inverse, static_cast<float>(low), static_cast<float>(high)));
      product += weights[i] * q;
      square += q * q;
    }
    // Of the squared error, what the best scale for these quants takes away.
    const float gain = product * (product / square);
    if (gain > best_gain) {
      best_gain = gain;
      best_scale = product / square;
    }
  }
  return best_scale;
}

// The sums that a straight line through (q, w) is fitted with.
struct Line {
  double count = 0;
  double q = 0;
  double qq = 0;
  double w = 0;
  double qw = 0;

  // Of the line with the least squared error and a minimum of at most `largest_minimum`.
  Fit Best(float largest_minimum) const {
    const double determinant = count * qq - q * q;
    double scale = determinant > 0 ? (count * qw - q * w) / determinant : 0;
    double minimum = (w - scale * q) / count;
    if (minimum > double{largest_minimum}) {
      minimum = largest_minimum;
      scale = qq > 0 ? (qw - minimum * q) / qq : 0;
    }
    return {.scale = static_cast<float>(scale), .minimum = static_cast<float>(minimum)};
  }

  // The squared error less the weights' own squares.
  double Error(const Fit& fit) const {
    const double s = fit.scale;
    const double m = fit.minimum;
    return s * s * qq + 2 * s * m * q + count * m * m - 2 * s * qw - 2 * m * w;
  }
};

// w = scale * q + minimum with q in [0, high], scale >= 0. `largest_minimum`: of the result.
Fit FitRange(const float* weights, int64_t count, int32_t high, float largest_minimum) {
  const auto [least, most] = std::minmax_element(weights, weights + count);
  const float low_end = std::min(*least, largest_minimum);
  if (*most - low_end < kNothing) return {.scale = 0, .minimum = low_end};
  Fit best;
  double best_error = std::numeric_limits<double>::infinity();
  for (const float range : kRanges) {
    const float inverse = static_cast<float>(high) * range / (*most - low_end);
    float q_sum = 0;
    float qq_sum = 0;
    float w_sum = 0;
    float qw_sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float q =
          Round(std::clamp((weights[i] - low_end) * inverse, 0.0f, static_cast<float>(high)));
      q_sum += q;
      qq_sum += q * q;
      w_sum += weights[i];
      qw_sum += q * weights[i];
    }
    const Line line = {static_cast<double>(count), q_sum, qq_sum, w_sum, qw_sum};
    const Fit fit = line.Best(largest_minimum);
    if (fit.scale >= 0 && line.Error(fit) < best_error) {
      best_error = line.Error(fit);
      best = fit;
    }
  }
  return best;
}

// Nibbles as Q4_0 to IQ4_NL have them, and for five bits the u32 before them.
void StoreQuants(const int32_t* quants, bool five_bits, std::byte* to) {
  if (five_bits) {
    uint32_t fifth = 0;
    for (int i = 0; i < 32; ++i) fifth |= static_cast<uint32_t>(quants[i] >> 4) << i;
    std::memcpy(to, &fifth, 4);
    to += 4;
  }
  for (int i = 0; i < 16; ++i) {
    to[i] = static_cast<std::byte>((quants[i] & 15) | (quants[i + 16] & 15) << 4);
  }
}

void QuantizeSymmetric(DType dtype, const float* weights, std::byte* block) {
  const int32_t offset = dtype == DType::kQ4_0 ? 8 : 16;
  const Fit fit = {.scale = RoundF16(FitScale(weights, 32, -offset, offset - 1))};
  int32_t quants[32];
  for (int i = 0; i < 32; ++i) {
    quants[i] = QuantOf(weights[i], fit, -offset, offset - 1) + offset;
  }
  StoreF16(fit.scale, block);
  StoreQuants(quants, dtype == DType::kQ5_0, block + 2);
}

void QuantizeAffine(DType dtype, const float* weights, std::byte* block) {
  const int32_t high = dtype == DType::kQ4_1 ? 15 : 31;
  const Fit exact = FitRange(weights, 32, high, std::numeric_limits<float>::max());
  const Fit fit = {.scale = RoundF16(exact.scale), .minimum = RoundF16(exact.minimum)};
  int32_t quants[32];
  for (int i = 0; i < 32; ++i) quants[i] = QuantOf(weights[i], fit, 0, high);
  StoreF16(fit.scale, block);
  StoreF16(fit.minimum, block + 2);
  StoreQuants(quants, dtype == DType::kQ5_1, block + 4);
}

float Largest(const float* weights, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(weights[i]));
  return largest;
}

void StoreBytes(const float* weights, int64_t count, const Fit& fit, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<std::byte>(QuantOf(weights[i], fit, -127, 127));
  }
}

void QuantizeBytes(const float* weights, int64_t count, std::byte* block) {
  const Fit fit = {.scale = RoundF16(Largest(weights, count) / 127.0f)};
  StoreF16(fit.scale, block);
  StoreBytes(weights, count, fit, block + 2);
}

void QuantizeNibbles128(const float* weights, std::byte* block) {
  const Fit fit = {.scale = RoundF16(FitScale(weights, 128, -8, 7))};
  StoreF16(fit.scale, block);
  for (int64_t part = 0; part < 4; ++part) {
    int32_t quants[32];
    for (int i = 0; i < 32; ++i) quants[i] = QuantOf(weights[32 * part + i], fit, -8, 7) + 8;
    StoreQuants(quants, false, block + 2 + 16 * part);
  }
}

// One scale for the row, the largest weight over 127.
void QuantizeRowInt8(const float* weights, int64_t cols, std::byte* row) {
  const float largest = Largest(weights, cols);
  const Fit fit = {.scale = largest < kNothing ? 0.0f : largest / 127.0f};
  std::memcpy(row, &fit.scale, 4);
  StoreBytes(weights, cols, fit, row + 4);
}

// Q4_K and Q5_K: groups' scales and minimums as six-bit multiples of the block's.
void QuantizeKRange(DType dtype, const float* weights, std::byte* block) {
  const int32_t high = dtype == DType::kQ4_K ? 15 : 31;
  Fit fits[kKGroups];
  float scale_max = 0;
  float minimum_max = 0;
  for (int64_t g = 0; g < kKGroups; ++g) {
    fits[g] = FitRange(weights + 32 * g, 32, high, 0.0f);
    scale_max = std::max(scale_max, fits[g].scale);
    minimum_max = std::max(minimum_max, -fits[g].minimum);
  }
  const float d = RoundF16(scale_max / 63.0f);
  const float dmin = RoundF16(minimum_max / 63.0f);
  ScaleMin pairs[kKGroups];
  int32_t quants[kKGroups][32];
  for (int64_t g = 0; g < kKGroups; ++g) {
    pairs[g].scale = static_cast<uint8_t>(QuantOf(fits[g].scale, {.scale = d}, 0, 63));
    pairs[g].minimum = static_cast<uint8_t>(QuantOf(-fits[g].minimum, {.scale = dmin}, 0, 63));
    const Fit fit = {.scale = d * pairs[g].scale, .minimum = -(dmin * pairs[g].minimum)};
    for (int i = 0; i < 32; ++i) quants[g][i] = QuantOf(weights[32 * g + i], fit, 0, high);
  }
  StoreF16(d, block);
  StoreF16(dmin, block + 2);
  PackKScaleMins(pairs, block + 4);
  std::byte* nibbles = block + 16;
  if (dtype == DType::kQ5_K) {
    for (int i = 0; i < 32; ++i) {
      int32_t bits = 0;
      for (int64_t g = 0; g < kKGroups; ++g) bits |= quants[g][i] >> 4 << g;
      block[16 + i] = static_cast<std::byte>(bits);
    }
    nibbles += 32;
  }
  for (int64_t pair = 0; pair < kKGroups / 2; ++pair) {
    for (int i = 0; i < 32; ++i) {
      nibbles[32 * pair + i] =
          static_cast<std::byte>((quants[2 * pair][i] & 15) | (quants[2 * pair + 1][i] & 15) << 4);
    }
  }
}

// Groups' scales as signed eight-bit multiples of the block's.
void QuantizeQ6K(const float* weights, std::byte* block) {
  float scales[16];
  float extreme = 0;
  for (int g = 0; g < 16; ++g) {
    scales[g] = FitScale(weights + 16 * g, 16, -32, 31);
    if (std::fabs(scales[g]) > std::fabs(extreme)) extreme = scales[g];
  }
  const Fit scale_fit = {.scale = RoundF16(extreme / -128.0f)};
  std::fill_n(block, 192, std::byte{0});
  StoreF16(scale_fit.scale, block + 208);
  for (int64_t i = 0; i < 256; ++i) {
    const int32_t group_scale = QuantOf(scales[i / 16], scale_fit, -128, 127);
    block[192 + i / 16] = static_cast<std::byte>(group_scale);
    const Fit fit = {.scale = scale_fit.scale * static_cast<float>(group_scale)};
    const int32_t q = QuantOf(weights[i], fit, -32, 31) + 32;
    // Q6KQuant's order, backwards.
    const int64_t half = i / 128;
    const int64_t in_half = i % 128;
    block[64 * half + in_half % 64] |= static_cast<std::byte>((q & 15) << (in_half < 64 ? 0 : 4));
    block[128 + 32 * half + in_half % 32] |= static_cast<std::byte>(q >> 4 << (in_half / 32 * 2));
  }
}

// The index of the value nearest to `x`: as many midpoints lie below it.
int32_t NearestIq4Nl(float x) {
  int32_t index = 0;
  for (int i = 0; i < 15; ++i) {
    index += x > 0.5f * static_cast<float>(kIq4NlValues[i] + kIq4NlValues[i + 1]) ? 1 : 0;
  }
  return index;
}

void QuantizeIq4Nl(const float* weights, std::byte* block) {
  const float extreme = Extreme(weights, 32);
  float best_gain = 0;
  float best_scale = 0;
  // The largest weight becomes the table's largest value, of its sign or of the other.
  for (const float end : {-127.0f, 113.0f}) {
    for (const float range : {0.94f, 1.0f, 1.06f}) {
      if (std::fabs(extreme) < kNothing) continue;
      const float inverse = end * range / extreme;
      float product = 0;
      float square = 0;
      for (int i = 0; i < 32; ++i) {
        const auto value = static_cast<float>(kIq4NlValues[NearestIq4Nl(weights[i] * inverse)]);
        product += weights[i] * value;
        square += value * value;
      }
      const float gain = product * (product / square);
      if (gain <= best_gain) continue;
      best_gain = gain;
      best_scale = product / square;
    }
  }
  const float scale = RoundF16(best_scale);
  int32_t quants[32];
  for (int i = 0; i < 32; ++i) quants[i] = scale == 0 ? 8 : NearestIq4Nl(weights[i] / scale);
  StoreF16(scale, block);
  StoreQuants(quants, false, block + 2);
}

void QuantizeBlock(DType dtype, const float* weights, std::byte* block) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ5_0:
      return QuantizeSymmetric(dtype, weights, block);
    case DType::kQ4_1:
    case DType::kQ5_1:
      return QuantizeAffine(dtype, weights, block);
    case DType::kQ8_0:
    case DType::kQ8_G128:
      return QuantizeBytes(weights, BlockWeights(dtype), block);
    case DType::kQ4_G128:
      return QuantizeNibbles128(weights, block);
    case DType::kQ4_K:
    case DType::kQ5_K:
      return QuantizeKRange(dtype, weights, block);
    case DType::kQ6_K:
      return QuantizeQ6K(weights, block);
    case DType::kIQ4_NL:
      return QuantizeIq4Nl(weights, block);
    case DType::kINT8:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return;
  }
}

}  // namespace

void QuantizeWeights(DType dtype, const float* weights, int64_t cols, std::byte* row) {
  if (dtype == DType::kINT8) return QuantizeRowInt8(weights, cols, row);
  const int64_t block_weights = BlockWeights(dtype);
  for (int64_t i = 0; i < cols / block_weights; ++i) {
    QuantizeBlock(dtype, weights + i * block_weights, row + i * BlockBytes(dtype));
  }
}

}  // namespace shoal
