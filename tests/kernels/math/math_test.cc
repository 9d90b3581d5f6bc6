// The contract's scalar functions: accuracy against the standard library in wider precision, exact
// points, known answers, and digests that any other compiler or machine must reproduce.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/math/real.h"
#include "kernels/math/rope_table.h"
#include "kernels/math/scalar.h"
#include "transport/base/error.h"

namespace shoal::math {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// FNV-1a over the bytes of each value, the same on every machine of either word order.
class Digest {
 public:
  void Add(uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) {
      state_ = (state_ ^ ((value >> (8 * byte)) & 0xFF)) * 0x100000001B3;
    }
  }
  void Add(float value) { Add(uint64_t{std::bit_cast<uint32_t>(value)}); }
  void Add(double value) { Add(std::bit_cast<uint64_t>(value)); }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325;
};

double UlpOf(float value) {
  const float magnitude = std::max(std::fabs(value), 0x1p-126f);
  return std::ldexp(1.0, std::ilogb(magnitude) - 23);
}

TEST(Exp, IsExactlyOneAtZero) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-0.0f), 1.0f);
}

TEST(Exp, KeepsNaNAndSaturates) {
  EXPECT_TRUE(std::isnan(Exp(kNaN)));
  EXPECT_TRUE(std::isnan(Exp(-kNaN)));
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_EQ(Exp(88.75f), kInfinity);
  EXPECT_EQ(Exp(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(std::bit_cast<uint32_t>(Exp(-kInfinity)), 0u);
  EXPECT_EQ(std::bit_cast<uint32_t>(Exp(-104.0f)), 0u);
  EXPECT_LT(Exp(88.72283f), kInfinity);
}

TEST(Exp, UnderflowsGradually) {
  EXPECT_EQ(Exp(-103.0f), static_cast<float>(std::exp(-103.0)));
  EXPECT_EQ(std::bit_cast<uint32_t>(Exp(-103.9f)), 1u);
  float last = Exp(-80.0f);
  for (float x = -80.0f; x > -105.0f; x -= 0.125f) {
    EXPECT_LE(Exp(x), last);
    last = Exp(x);
  }
}

TEST(Exp, IsWithinTwoUlpOverAllFloats) {
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1009) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (!(x > -105.0f && x < 88.72f)) continue;
    const double exact = std::exp(static_cast<double>(x));
    const double error = std::fabs(Exp(x) - exact) / UlpOf(static_cast<float>(exact));
    worst = std::max(worst, error);
  }
  RecordProperty("worst_ulp", std::to_string(worst));
  EXPECT_LT(worst, 2.0);
}

TEST(Silu, IsXOverOnePlusExpOfMinusX) {
  EXPECT_EQ(Silu(0.0f), 0.0f);
  EXPECT_EQ(Silu(100.0f), 100.0f);
  EXPECT_EQ(std::bit_cast<uint32_t>(Silu(-200.0f)), 0x80000000u);
  EXPECT_TRUE(std::isnan(Silu(kNaN)));
  for (float x = -20.0f; x < 20.0f; x += 0.37f) {
    const double exact = x / (1.0 + std::exp(-static_cast<double>(x)));
    EXPECT_NEAR(Silu(x), exact, 4 * UlpOf(static_cast<float>(exact))) << x;
  }
}

TEST(Log, IsWithinTwoUlp) {
  EXPECT_EQ(Log(1.0), 0.0);
  uint64_t state = 1;
  for (int i = 0; i < 200000; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    // Every second argument lies close to 1, where the result's own size is the danger.
    const double x =
        i % 2 == 0 ? std::bit_cast<double>((state >> 2) % 0x7FE0000000000000 + 1)
                   : 1.0 + std::ldexp(static_cast<double>(state >> 11), -60) - std::ldexp(1.0, -8);
    const long double exact = std::log(static_cast<long double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(static_cast<double>(exact)) - 52);
    ASSERT_LE(std::fabs(static_cast<double>(Log(x) - exact)), 2 * ulp) << x;
  }
}

TEST(ExpReal, IsWithinTwoUlp) {
  EXPECT_EQ(ExpReal(0.0), 1.0);
  for (double x = -700.0; x <= 700.0; x += 0.0173) {
    const long double exact = std::exp(static_cast<long double>(x));
    ASSERT_LE(std::fabs(static_cast<double>(ExpReal(x) / exact - 1)), 0x1p-51) << x;
  }
}

TEST(SinCosReal, IsWithinTwoToTheMinus52UpToItsLimit) {
  uint64_t state = 7;
  for (int i = 0; i < 200000; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const double fraction = std::ldexp(static_cast<double>(state >> 11), -53);
    const double x = fraction * (i % 2 == 0 ? kSinCosMax : 10.0) * (i % 3 == 0 ? -1 : 1);
    const SinCos found = SinCosReal(x);
    ASSERT_LE(std::fabs(static_cast<double>(found.sin - std::sin(static_cast<long double>(x)))),
              0x1p-52)
        << x;
    ASSERT_LE(std::fabs(static_cast<double>(found.cos - std::cos(static_cast<long double>(x)))),
              0x1p-52)
        << x;
  }
  // Whole numbers near multiples of pi / 2: the remainder is small and all of it must be right.
  for (const double x :
       {11.0, 22.0, 355.0, 710.0, 103993.0, 104348.0, 208341.0, 573204.0, 833719.0, 1146408.0}) {
    const long double exact = std::sin(static_cast<long double>(x));
    EXPECT_LE(std::fabs(static_cast<double>(SinCosReal(x).sin / exact - 1)), 0x1p-50) << x;
  }
}

TEST(Philox4x32, GivesTheKnownAnswersOfRandom123) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(GumbelNoise, ReadsTheTokensWordOfItsBlock) {
  const uint64_t seed = 0x0123456789ABCDEF;
  for (uint32_t token = 40; token < 44; ++token) {
    const uint32_t word = Philox4x32({17, 10, 2, 0}, {0x89ABCDEF, 0x01234567})[token % 4];
    const double uniform = (word + 0.5) / 4294967296.0;
    EXPECT_NEAR(GumbelNoise(seed, 17, token, 2), -std::log(-std::log(uniform)), 1e-12);
  }
}

TEST(GumbelNoise, StaysInsideTheBoundsThatPruningReliesOn) {
  // The extreme words, 0 and 2^32 - 1.
  EXPECT_GT(-Log(-Log(0.5 * 0x1p-32)), -3.2);
  EXPECT_LT(-Log(-Log(4294967295.5 * 0x1p-32)), 22.9);
}

TEST(ToFixed, RoundsToNearestEven) {
  EXPECT_EQ(ToFixed(1.0f), int64_t{1} << 32);
  EXPECT_EQ(ToFixed(-0.75f), -(int64_t{3} << 30));
  EXPECT_EQ(ToFixed(0.5f * 0x1p-32f), 0);
  EXPECT_EQ(ToFixed(1.5f * 0x1p-32f), 2);
  EXPECT_EQ(ToFixed(2.5f * 0x1p-32f), 2);
  EXPECT_EQ(ToFixed(-1.5f * 0x1p-32f), -2);
  EXPECT_EQ(ToFixed(-2.5f * 0x1p-32f), -2);
  EXPECT_EQ(ToFixed(0x1p-149f), 0);
  EXPECT_EQ(ToFixed(std::nextafter(0x1p30f, 0.0f)), (int64_t{1} << 62) - (int64_t{1} << 38));
  EXPECT_EQ(ToFixed(-0x1.fffffep29f), -((int64_t{1} << 62) - (int64_t{1} << 38)));
  EXPECT_EQ(ToFixed(0x1.000002p19f), (int64_t{1} << 51) + (int64_t{1} << 28));
}

TEST(FromFixed, RoundsTheExactSumOnceToDoubleAndOnceToFloat) {
  EXPECT_EQ(FromFixed(0), 0.0f);
  EXPECT_EQ(FromFixed(int64_t{1} << 32), 1.0f);
  EXPECT_EQ(FromFixed(-(int64_t{3} << 30)), -0.75f);
  EXPECT_EQ(FromFixed(1), 0x1p-32f);
  EXPECT_EQ(FromFixed(INT64_MIN), -0x1p31f);
  // 2^62 + 2^38 + 1 is just above half way between two floats, but its double is exactly half way:
  // to even, down.
  EXPECT_EQ(FromFixed((int64_t{1} << 62) + (int64_t{1} << 38) + 1), 0x1p30f);
  for (const float y : {1.25f, -0x1.8p-9f, 3.7e8f, -0x1.234566p10f})
    EXPECT_EQ(FromFixed(ToFixed(y)), y);
}

TEST(RowSum, AddsSixteenPartialsPerBlockOf512) {
  EXPECT_EQ(RowSum({}), 0.0f);
  std::vector<float> values(1100);
  uint32_t state = 3;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  // The same sum written the other way: per partial, then as a tree by recursion.
  float expected = 0.0f;
  for (size_t block = 0; block < values.size(); block += 512) {
    float p[16] = {};
    for (size_t j = 0; j < 16; ++j) {
      for (size_t i = block + j; i < std::min(block + 512, values.size()); i += 16)
        p[j] += values[i];
    }
    const auto quad = [&](size_t j) { return (p[j] + p[j + 8]) + (p[j + 4] + p[j + 12]); };
    expected += (quad(0) + quad(2)) + (quad(1) + quad(3));
  }
  EXPECT_EQ(RowSum(values), expected);
}

TEST(RowSumSquares, SquaresWithoutRounding) {
  // x^2 = 1 + 2^-22 + 2^-46; only a fused sum keeps the last term once 1 is gone again.
  const float x = 1.0f + 0x1p-23f;
  std::vector<float> values(17, 0.0f);
  values[0] = x;
  values[16] = x;
  EXPECT_EQ(RowSumSquares(values), std::fma(x, x, x * x));
}

TEST(RowSum, KeepsNaNAndInfinity) {
  EXPECT_TRUE(std::isnan(RowSum(std::vector<float>{1.0f, kNaN, 2.0f})));
  EXPECT_EQ(RowSum(std::vector<float>{1.0f, kInfinity}), kInfinity);
}

TEST(RopeFrequencies, ArePowersOfTheta) {
  const std::vector<double> frequencies = RopeFrequencies(10000.0, 80);
  ASSERT_EQ(frequencies.size(), 40u);
  EXPECT_EQ(frequencies[0], 1.0);
  for (size_t j = 0; j < 40; ++j) {
    const double exact = std::pow(10000.0, -2.0 * static_cast<double>(j) / 80.0);
    EXPECT_NEAR(frequencies[j] / exact, 1.0, 1e-14);
  }
}

TEST(ApplyLlama3Scaling, DividesLongWavesKeepsShortOnesAndBlendsBetween) {
  // Wavelengths 2 pi / f: 8192 / 1 and 8192 / 4 bound the blend.
  std::vector<double> frequencies = {1.0, 2 * M_PI / 4096.0, 1e-5};
  ApplyLlama3Scaling(8.0, 1.0, 4.0, 8192, frequencies);
  EXPECT_EQ(frequencies[0], 1.0);
  const double smooth = (8192.0 / 4096.0 - 1.0) / 3.0;
  EXPECT_NEAR(frequencies[1], (1 - smooth) * (2 * M_PI / 4096.0) / 8.0 + smooth * 2 * M_PI / 4096.0,
              1e-16);
  EXPECT_EQ(frequencies[2], 1e-5 / 8.0);
}

TEST(BuildRopeTable, HoldsGainTimesCosineAndSine) {
  const std::vector<double> frequencies = {1.0, 0.25};
  const RopeTable table = BuildRopeTable(frequencies, 1.5, 5);
  ASSERT_EQ(table.cos.size(), 10u);
  EXPECT_EQ(table.cos[0], 1.5f);
  EXPECT_EQ(table.sin[0], 0.0f);
  EXPECT_EQ(table.cos[4 * 2 + 1], static_cast<float>(1.5 * std::cos(1.0)));
  EXPECT_EQ(table.sin[3 * 2 + 0], static_cast<float>(1.5 * std::sin(3.0)));
}

TEST(BuildRopeTable, RefusesAnglesItCannotReduce) {
  EXPECT_THROW(BuildRopeTable(std::vector<double>{2.0}, 1.0, 1'000'000), Error);
  EXPECT_THROW(BuildRopeTable(std::vector<double>{std::nan("")}, 1.0, 2), Error);
}

TEST(CheckArithmetic, PassesHere) { EXPECT_NO_THROW(CheckArithmetic()); }

// Bits, not closeness: other compilers and machines must print the same. A change of any constant
// or order of operations lands here, and is then a new version of the contract.
TEST(Golden, ExpOverAllFloats) {
  Digest digest;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 10007) {
    const float y = Exp(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    if (y == y) digest.Add(y);
  }
  EXPECT_EQ(digest.value(), 0xCC5A6F44DF240745u);
}

TEST(Golden, LogExpSinCosInDouble) {
  Digest digest;
  uint64_t state = 11;
  for (int i = 0; i < 20000; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const double x = std::ldexp(static_cast<double>((state >> 11) + 1), -53);
    digest.Add(Log(x));
    digest.Add(ExpReal(x * 100 - 50));
    const SinCos value = SinCosReal(x * kSinCosMax);
    digest.Add(value.sin);
    digest.Add(value.cos);
  }
  EXPECT_EQ(digest.value(), 0xFBD7DCF4D0B0BD74u);
}

TEST(Golden, RopeTableAndNoise) {
  Digest digest;
  const RopeTable table = BuildRopeTable(RopeFrequencies(100000.0, 64), 1.0, 600);
  for (const float value : table.cos) digest.Add(value);
  for (const float value : table.sin) digest.Add(value);
  for (uint32_t token = 0; token < 1000; ++token) digest.Add(GumbelNoise(42, 7, token, 0));
  EXPECT_EQ(digest.value(), 0x5ECC26894E594EADu);
}

}  // namespace
}  // namespace shoal::math
