#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/format/half.h"
#include "parallel/model/config/config.h"
#include "parallel/model/digest.h"
#include "tests/parallel/model/refusal.h"

// Leaves, half-precision numbers and weight digests: small pure functions with exact answers.

namespace shoal::test {
namespace {

model::LeafGeometry Leaves(int64_t heads, int64_t head_dim, int64_t ffn_dim, int64_t group) {
  model::ModelConfig config;
  config.head_count = heads;
  config.head_dim = head_dim;
  config.ffn_dims = {ffn_dim};
  config.vocab_size = 129;
  return model::ComputeLeaves(config, group, group);
}

TEST(ComputeLeaves, TakesTheFewestWholeHeadsThatFillGroups) {
  EXPECT_EQ(Leaves(8, 64, 1024, 32).heads_per_leaf, 1);
  EXPECT_EQ(Leaves(16, 80, 1024, 32).heads_per_leaf, 2);
  EXPECT_EQ(Leaves(16, 80, 1024, 32).attention_leaf_count, 8);
  EXPECT_EQ(Leaves(8, 72, 1024, 32).heads_per_leaf, 4);
  EXPECT_EQ(Leaves(8, 72, 1024, 1).heads_per_leaf, 1);
}

TEST(ComputeLeaves, TakesTheMlpWidthFromTheFeedForwardDimension) {
  EXPECT_EQ(Leaves(8, 64, 992, 32).mlp_leaf_width, 64);
  EXPECT_EQ(Leaves(8, 64, 992, 32).mlp_leaf_count, 16);
  EXPECT_EQ(Leaves(8, 64, 1024, 32).mlp_leaf_width, 128);
  EXPECT_EQ(Leaves(8, 64, 8192, 32).mlp_leaf_width, 128);
  EXPECT_EQ(Leaves(8, 64, 8224, 32).mlp_leaf_width, 256);
  EXPECT_EQ(Leaves(8, 64, 8224, 32).mlp_leaf_count, 33);
}

TEST(ComputeLeaves, CountsAShortLastVocabularyUnit) {
  EXPECT_EQ(Leaves(8, 64, 1024, 32).vocab_unit_count, 3);
}

TEST(ComputeLeaves, RefusesWidthsThatDoNotFillGroups) {
  EXPECT_NE(RefusalOf([] { Leaves(3, 16, 1024, 32); }).find("attention output"), std::string::npos);
  EXPECT_NE(RefusalOf([] { Leaves(2, 16, 1000, 32); }).find("MLP down"), std::string::npos);
}

TEST(Half, WidensEveryF16Exactly) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10) & 31;
    const double fraction = bits & 0x3FF;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    const float value = F16ToF32(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      ASSERT_EQ(std::isinf(value), fraction == 0) << bits;
      ASSERT_EQ(std::isnan(value), fraction != 0) << bits;
      ASSERT_FALSE(IsFiniteF16(static_cast<uint16_t>(bits))) << bits;
    } else {
      ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
      ASSERT_EQ(std::abs(value), magnitude) << bits;
      ASSERT_EQ(F32ToF16(value), bits) << bits;
    }
  }
}

TEST(Half, RoundsToTheNearestF16AndTiesToEven) {
  for (uint16_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = F16ToF32(bits);
    const float high = F16ToF32(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;  // Exact: f32 has more digits.
    ASSERT_EQ(F32ToF16(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0F)), bits) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 1e30F)), bits + 1) << bits;
    ASSERT_EQ(F32ToF16(-middle), 0x8000 | (bits % 2 == 0 ? bits : bits + 1)) << bits;
  }
  EXPECT_EQ(F32ToF16(65519.996F), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0F), 0x7C00);
  EXPECT_EQ(F32ToF16(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_FALSE(IsFiniteF16(F32ToF16(std::nanf(""))));
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::nanf("")))));
}

TEST(Half, RoundsToTheNearestBF16AndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    ASSERT_EQ(F32ToBF16(BF16ToF32(half)), half);
    const auto middle = std::bit_cast<float>((bits << 16) | 0x8000U);
    ASSERT_EQ(F32ToBF16(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(F32ToBF16(std::bit_cast<float>((bits << 16) | 0x7FFFU)), bits) << bits;
    ASSERT_EQ(F32ToBF16(std::bit_cast<float>((bits << 16) | 0x8001U)), bits + 1) << bits;
  }
  EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(std::bit_cast<float>(0x7F800001U)))));
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(WeightDigest, IsTheSameInAnyOrderAndAnyCut) {
  const std::string rows[] = {"first", "second", "third"};
  model::WeightDigest whole;
  model::WeightDigest parts[2];
  for (int64_t i = 0; i < 3; ++i) {
    whole.AddUnit("w", i, Bytes(rows[i]));
    parts[i % 2].AddUnit("w", 2 - i, Bytes(rows[2 - i]));
  }
  parts[1] += parts[0];
  EXPECT_EQ(whole, parts[1]);
  EXPECT_EQ(whole, model::WeightDigest(whole.high(), whole.low()));
  EXPECT_EQ(whole.Hex().size(), 32);
}

TEST(WeightDigest, DependsOnNameIndexAndBytes) {
  const auto digest = [](const std::string& name, int64_t unit, const std::string& bytes) {
    model::WeightDigest result;
    result.AddUnit(name, unit, Bytes(bytes));
    return result.Hex();
  };
  EXPECT_NE(digest("a", 0, "x"), digest("b", 0, "x"));
  EXPECT_NE(digest("a", 0, "x"), digest("a", 1, "x"));
  EXPECT_NE(digest("a", 0, "x"), digest("a", 0, "y"));
}

TEST(WeightDigest, CarriesBetweenItsHalves) {
  model::WeightDigest sum(1, UINT64_MAX);
  sum += model::WeightDigest(2, 1);
  EXPECT_EQ(sum, model::WeightDigest(4, 0));
  EXPECT_EQ(sum.Hex(), "00000000000000040000000000000000");
}

// XXH3-128 of the bytes "w", 0, 1, 0, 0, 0, 0, 0, 0, 0, "abc".
TEST(WeightDigest, HashesTheDocumentedBytes) {
  model::WeightDigest digest;
  digest.AddUnit("w", 1, Bytes("abc"));
  EXPECT_EQ(digest.Hex(), "253a3f67a768566d841ddf6eac805ad9");
}

}  // namespace
}  // namespace shoal::test
