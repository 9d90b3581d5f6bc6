// Rope tables: one scalar double-precision routine, so that every machine rotates by the same
// angles.

#include "kernels/math/rope_table.h"

#include <algorithm>

#include "kernels/math/real.h"
#include "kernels/math/scalar.h"
#include "transport/base/error.h"

namespace shoal::math {

std::vector<double> RopeFrequencies(double theta, int64_t head_dim) {
  const double log_theta = Log(theta);
  std::vector<double> frequencies;
  for (int64_t j = 0; j < head_dim / 2; ++j) {
    const double fraction = static_cast<double>(2 * j) / static_cast<double>(head_dim);
    frequencies.push_back(ExpReal(-(fraction * log_theta)));
  }
  return frequencies;
}

void ApplyLlama3Scaling(double factor, double low_freq_factor, double high_freq_factor,
                        int64_t original_context_tokens, std::span<double> frequencies) {
  constexpr double kTwoPi = 0x1.921fb54442d18p+2;
  const auto context = static_cast<double>(original_context_tokens);
  for (double& frequency : frequencies) {
    const double wavelength = kTwoPi / frequency;
    if (wavelength > context / low_freq_factor) {
      frequency = frequency / factor;
    } else if (wavelength >= context / high_freq_factor) {
      const double smooth =
          (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
      frequency = (1.0 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

RopeTable BuildRopeTable(std::span<const double> frequencies, double gain, int64_t positions) {
  RopeTable table;
  table.positions = positions;
  table.half_dim = static_cast<int64_t>(frequencies.size());
  for (const double frequency : frequencies) {
    const double angle_max = static_cast<double>(std::max<int64_t>(positions - 1, 0)) * frequency;
    // The comparison is the wrong way round for NaN, on purpose.
    if (!(angle_max >= 0.0 && angle_max <= kSinCosMax)) {
      Throw(ErrorCode::kInvalidArgument, "rope frequency ", frequency, " over ", positions,
            " positions reaches an angle of ", angle_max, ", expected 0 to ", kSinCosMax,
            ": lower the context length or correct the model's rope settings");
    }
  }
  const size_t count = static_cast<size_t>(positions) * frequencies.size();
  table.cos.reserve(count);
  table.sin.reserve(count);
  for (int64_t position = 0; position < positions; ++position) {
    for (const double frequency : frequencies) {
      const SinCos value = SinCosReal(static_cast<double>(position) * frequency);
      table.cos.push_back(static_cast<float>(gain * value.cos));
      table.sin.push_back(static_cast<float>(gain * value.sin));
    }
  }
  return table;
}

}  // namespace shoal::math
