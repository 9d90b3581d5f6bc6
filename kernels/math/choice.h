#pragma once

// What choosing a token computes over a whole vocabulary ("Choosing a token" in
// kernels/ARITHMETIC.md): the largest logit, integer weights and their sums, and which tokens the
// noise may lift highest. Here as the scalar reference, and as the functions that instruction sets
// replace.
//
// Logits are finite, or -infinity for a token that was removed, except where said otherwise.

#include <cstdint>

namespace shoal::math {

// Below this exponent a weight is 0: exp(-29) * 2^40 < 1/2. Weights are RNE(exp(x) * 2^40).
constexpr float kNoWeight = -29;

// The exponent of a token's weight: float((double(logit) - double(maximum)) / temperature), or some
// number below kNoWeight where that is below -1000, which may have no float.
float WeightExponent(float logit, float maximum, double temperature);

struct WeightsCall {
  const float* logits;
  int64_t count;
  float maximum;
  double temperature;
  uint64_t* weights;  // [count]; may be null.
  bool moments;       // Whether their sum is wanted.
};

// Count at most 2^22: then neither sum reaches 2^63.
struct WeightSums {
  uint64_t weights = 0;
  uint64_t moments = 0;  // Of RNE((double(exp(x)) * double(-x)) * 2^40), or 0.

  bool operator==(const WeightSums&) const = default;
};

struct NoiseCall {
  const float* logits;
  int64_t count;
  uint32_t first_token;  // Of logits[0].
  uint64_t seed;
  uint32_t position;
  uint32_t choice;
  double temperature;  // Above 0.
  double score_min;    // Finite.
};

struct LargestLogit {
  float value = 0;      // Any, if a logit is NaN.
  bool finite = false;  // All logits are; -infinity is not.
};

struct ChoiceKernels {
  // Of at least one logit.
  LargestLogit (*largest)(const float* logits, int64_t count);
  WeightSums (*weights)(const WeightsCall& call);
  // Writes ascending indices of logits, room for `count`, and returns how many: at least all whose
  // logit / temperature + noise reaches score_min, and few others. Which others may differ between
  // instruction sets.
  int64_t (*noisy)(const NoiseCall& call, int32_t* indices);
};

LargestLogit FindLargestLogit(const float* logits, int64_t count);
WeightSums SumWeights(const WeightsCall& call);
int64_t ListNoisyTokens(const NoiseCall& call, int32_t* indices);

// Above every value of the noise: -ln(2^-33) = 22.88.
constexpr double kNoiseMax = 22.9;
// At least the noise that `word` gives (GumbelOf in scalar.h), and cheaper.
double NoiseBound(uint32_t word);

constexpr ChoiceKernels kScalarChoice = {FindLargestLogit, SumWeights, ListNoisyTokens};

}  // namespace shoal::math
