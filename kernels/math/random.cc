// The counter-based generator and the noise that tokens are chosen with.

#include "kernels/math/scalar.h"

namespace shoal::math {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * counter[0];
    const uint64_t second = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(second),
        static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(first)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

double GumbelNoise(uint64_t seed, uint32_t position, uint32_t token, uint32_t choice) {
  const std::array<uint32_t, 4> words =
      Philox4x32({position, token / 4, choice, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return GumbelOf(words[token % 4]);
}

double GumbelOf(uint32_t word) {
  const double uniform = (static_cast<double>(word) + 0.5) * 0x1p-32;
  return -Log(-Log(uniform));
}

}  // namespace shoal::math
