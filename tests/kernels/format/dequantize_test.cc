#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/format/pack.h"

// Every quantised format against values that ggml's reference dequantisation gave for the same
// bytes (tests/golden/dequantized.txt), and the K-quants' packed scales against their inverse.

namespace shoal::cpu {
namespace {

struct Sample {
  std::vector<std::byte> blocks;
  std::vector<std::byte> values;  // Little-endian f32.
};

std::vector<std::byte> FromHex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// By the format's name.
std::map<std::string, Sample> ReadSamples() {
  std::ifstream file(SHOAL_SOURCE_DIR "/tests/golden/dequantized.txt");
  while (file.peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  std::map<std::string, Sample> samples;
  std::string name;
  std::string blocks;
  std::string values;
  while (file >> name >> blocks >> values) samples[name] = {FromHex(blocks), FromHex(values)};
  return samples;
}

// -0 where the reference has +0: it subtracts a minimum of 0, the contract adds -0.
uint32_t WithoutZeroSign(uint32_t bits) { return bits << 1 == 0 ? 0 : bits; }

TEST(DequantizeRow, GivesTheReferencesBits) {
  const std::map<std::string, Sample> samples = ReadSamples();
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    // Formats of our own have no reference; linear_reference_test.cc reads their bytes.
    if (!IsQuantized(dtype) || dtype >= DType::kQ4_G128) continue;
    SCOPED_TRACE(ToString(dtype));
    const auto found = samples.find(std::string(ToString(dtype)));
    ASSERT_NE(found, samples.end());
    const Sample& sample = found->second;
    std::vector<uint32_t> expected(static_cast<size_t>(2 * BlockWeights(dtype)));
    ASSERT_EQ(sample.values.size(), 4 * expected.size());
    ASSERT_EQ(sample.blocks.size(), static_cast<size_t>(2 * BlockBytes(dtype)));
    std::memcpy(expected.data(), sample.values.data(), sample.values.size());
    std::vector<float> values(expected.size());
    DequantizeRow(dtype, sample.blocks.data(), 2 * BlockWeights(dtype), values.data());
    for (size_t k = 0; k < values.size(); ++k) {
      ASSERT_EQ(WithoutZeroSign(std::bit_cast<uint32_t>(values[k])), WithoutZeroSign(expected[k]))
          << "weight " << k;
    }
  }
}

TEST(KScaleMin, ReadsWhatPackKScaleMinsWrote) {
  std::mt19937 random(41);
  for (int round = 0; round < 100; ++round) {
    ScaleMin pairs[8];
    for (ScaleMin& pair : pairs) {
      pair = {static_cast<uint8_t>(random() % 64), static_cast<uint8_t>(random() % 64)};
    }
    std::byte packed[12];
    PackKScaleMins(pairs, packed);
    for (int64_t g = 0; g < 8; ++g) {
      EXPECT_EQ(KScaleMin(packed, g).scale, pairs[g].scale);
      EXPECT_EQ(KScaleMin(packed, g).minimum, pairs[g].minimum);
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
