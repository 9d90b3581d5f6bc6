#pragma once

// What the tests of the kernel table share: one instance per variant, numbers that find faults, and
// comparison by bits.

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/table.h"

namespace shoal::cpu {

// Found by GoogleTest through KernelTable's namespace; ctest prints raw bytes without it.
inline void PrintTo(const KernelTable& table, std::ostream* out) { *out << table.name; }

// One instance per variant, so that one which this machine cannot run is skipped by name.
// SHOAL_REQUIRE_ISA, a comma list of names, turns the skip into a failure.
class EveryVariant : public ::testing::TestWithParam<KernelTable> {
 protected:
  void SetUp() override {
    if ((GetParam().required_features & ~DetectCpuFeatures()) == 0) return;
    const char* required = std::getenv("SHOAL_REQUIRE_ISA");
    const std::string list = "," + std::string(required == nullptr ? "" : required) + ",";
    ASSERT_EQ(list.find("," + std::string(GetParam().name) + ","), std::string::npos)
        << "SHOAL_REQUIRE_ISA asks for " << GetParam().name << ", which does not run here";
    GTEST_SKIP() << "this machine lacks features that " << GetParam().name << " needs";
  }

  const KernelTable& variant() const { return GetParam(); }
  static const KernelTable& scalar() { return AllKernelTables().back(); }
};

inline std::string VariantName(const ::testing::TestParamInfo<KernelTable>& info) {
  return std::string(info.param.name);
}

// All NaNs are one value here: which payload comes out is not part of the contract.
inline uint32_t Bits(float x) { return x == x ? std::bit_cast<uint32_t>(x) : 0x7FC00000; }

inline ::testing::AssertionResult SameBits(const std::vector<float>& expected,
                                           const std::vector<float>& found) {
  if (expected.size() != found.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < expected.size(); ++i) {
    if (Bits(expected[i]) != Bits(found[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << " of " << expected.size() << ": expected " << expected[i]
             << ", found " << found[i] << std::hex << " (bits " << Bits(expected[i]) << ", "
             << Bits(found[i]) << ")";
    }
  }
  return ::testing::AssertionSuccess();
}

enum class Specials {
  kNone,    // Normal numbers.
  kFinite,  // One in eight is a zero of either sign, subnormal, huge, or near an edge of exp.
  kAny,     // And now and then NaN or infinite.
};

inline std::vector<float> RandomFloats(int64_t count, std::mt19937& random,
                                       Specials specials = Specials::kNone) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float finite[] = {0.0f, -0.0f, 1e-45f, -3e-39f, 1e-40f, 3.4e38f, -65519.0f, 60000.0f, 88.7f,
                          -103.9f, -104.5f, 89.5f,
                          // Half way between two bf16 or two f16, from either side.
                          0x1.01p0f, 0x1.03p0f, 0x1.002p0f, 0x1.006p0f, 0x1p-25f, 0x1.8p-24f};
  const float not_finite[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity,
                              65520.0f};
  std::normal_distribution<float> normal(0.0f, 1.5f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = normal(random);
    if (specials != Specials::kNone && random() % 8 == 0)
      value = finite[random() % std::size(finite)];
    if (specials == Specials::kAny && random() % 64 == 0) {
      value = not_finite[random() % std::size(not_finite)];
    }
  }
  return values;
}

}  // namespace shoal::cpu
