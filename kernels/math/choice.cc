// The reference for choosing a token: one logit at a time.

#include "kernels/math/choice.h"

#include <array>
#include <bit>
#include <limits>

#include "kernels/math/scalar.h"

namespace shoal::math {
namespace {

constexpr double kOne = 0x1p40;  // The weight of exponent 0.

// Adding 1.5 * 2^52 rounds a double below 2^51 to an integer, to nearest even.
uint64_t RoundToInteger(double x) {
  constexpr double kRound = 0x1.8p52;
  return static_cast<uint64_t>((x + kRound) - kRound);
}

}  // namespace

// 1 - u = (~word + 0.5) * 2^-32, and -ln(u) >= 1 - u.
double NoiseBound(uint32_t word) {
  constexpr double kLn2 = 0.6931471805599454;  // Rounded up.
  const uint32_t rest = ~word;
  const int exponent = rest == 0 ? -1 : 31 - std::countl_zero(rest);
  return kLn2 * (32 - exponent) + 1e-6;
}

float WeightExponent(float logit, float maximum, double temperature) {
  const double x = (double{logit} - double{maximum}) / temperature;
  return x < -1000 ? -1000.0F : static_cast<float>(x);
}

LargestLogit FindLargestLogit(const float* logits, int64_t count) {
  LargestLogit largest{.value = logits[0], .finite = true};
  for (int64_t i = 0; i < count; ++i) {
    if ((std::bit_cast<uint32_t>(logits[i]) & 0x7f800000U) == 0x7f800000U) largest.finite = false;
    if (logits[i] > largest.value) largest.value = logits[i];
  }
  return largest;
}

WeightSums SumWeights(const WeightsCall& call) {
  WeightSums sums;
  for (int64_t i = 0; i < call.count; ++i) {
    const float x = WeightExponent(call.logits[i], call.maximum, call.temperature);
    uint64_t weight = 0;
    if (x >= kNoWeight) {
      const double e = Exp(x);
      weight = RoundToInteger(e * kOne);
      if (call.moments) sums.moments += RoundToInteger((e * double{-x}) * kOne);
    }
    sums.weights += weight;
    if (call.weights != nullptr) call.weights[i] = weight;
  }
  return sums;
}

int64_t ListNoisyTokens(const NoiseCall& call, int32_t* indices) {
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(call.seed),
                                    static_cast<uint32_t>(call.seed >> 32)};
  int64_t found = 0;
  uint32_t quad = std::numeric_limits<uint32_t>::max();
  std::array<uint32_t, 4> words{};
  for (int64_t i = 0; i < call.count; ++i) {
    const double scaled = double{call.logits[i]} / call.temperature;
    if (scaled + kNoiseMax < call.score_min) continue;
    const uint32_t token = call.first_token + static_cast<uint32_t>(i);
    if (quad != token / 4) {
      quad = token / 4;
      words = Philox4x32({call.position, quad, call.choice, 0}, key);
    }
    if (scaled + NoiseBound(words[token % 4]) < call.score_min) continue;
    indices[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace shoal::math
