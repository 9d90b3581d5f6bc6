#pragma once

// Rope frequencies and tables, in double precision with our own sine and cosine.

#include <cstdint>
#include <span>
#include <vector>

namespace shoal::math {

struct RopeTable {
  int64_t positions = 0;
  int64_t half_dim = 0;
  std::vector<float> cos;  // [positions][half_dim]
  std::vector<float> sin;
};

// theta^(-2j / head_dim) for j in [0, head_dim / 2), by our own exp and log.
std::vector<double> RopeFrequencies(double theta, int64_t head_dim);

// Llama 3's scaling: wavelengths above original_context / low_freq_factor are divided by `factor`,
// those below original_context / high_freq_factor stay, those between are interpolated.
// Source: "rope_type": "llama3" in Hugging Face configurations.
void ApplyLlama3Scaling(double factor, double low_freq_factor, double high_freq_factor,
                        int64_t original_context_tokens, std::span<double> frequencies);

// float(gain * cos(position * frequency)) and likewise sin. Position * frequency is one double
// product.
RopeTable BuildRopeTable(std::span<const double> frequencies, double gain, int64_t positions);

}  // namespace shoal::math
