// The row operations of every variant against the scalar one, bit by bit, at the sizes on either
// side of where a vector loop starts, ends and leaves a remainder; and the scalar one against
// double precision.

#include <cmath>
#include <cstring>

#include "kernels/format/half.h"
#include "kernels/math/scalar.h"
#include "tests/kernels/cpu/every_variant.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kSizes[] = {0,  1,  2,  7,   8,   9,   15,  16,  17,  31,  32,   33,
                              64, 80, 96, 128, 255, 256, 257, 511, 512, 513, 1024, 1100};

class Rows : public EveryVariant {};

TEST_P(Rows, RmsNormHasTheScalarBits) {
  std::mt19937 random(1);
  for (const int64_t cols : kSizes) {
    for (const Specials specials : {Specials::kNone, Specials::kFinite, Specials::kAny}) {
      const std::vector<float> x = RandomFloats(cols, random, specials);
      const std::vector<float> weight = RandomFloats(cols, random, specials);
      std::vector<float> expected(x.size(), 7.0f);
      std::vector<float> found = x;
      scalar().rows.rms_norm(x.data(), weight.data(), 1e-5f, cols, expected.data());
      variant().rows.rms_norm(found.data(), weight.data(), 1e-5f, cols, found.data());  // In place.
      ASSERT_TRUE(SameBits(expected, found)) << cols << " columns";
    }
  }
}

TEST_P(Rows, RmsNormNearsDoublePrecision) {
  std::mt19937 random(2);
  for (const int64_t cols : {1, 33, 576, 1100}) {
    const std::vector<float> x = RandomFloats(cols, random);
    const std::vector<float> weight = RandomFloats(cols, random);
    std::vector<float> found(x.size());
    variant().rows.rms_norm(x.data(), weight.data(), 1e-5f, cols, found.data());
    double squares = 0;
    for (const float value : x) squares += double{value} * value;
    const double r = 1 / std::sqrt(squares / static_cast<double>(cols) + double{1e-5f});
    // A sum has at most 32 + 4 + 3 roundings in a chain, halved by the root; then six more.
    const double tolerance = (39.0 / 2 + 6) * 0x1p-24;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = x[i] * r * weight[i];
      ASSERT_NEAR(found[i], exact, tolerance * std::fabs(exact) + 1e-45);
    }
  }
}

TEST_P(Rows, RopeHasTheScalarBits) {
  std::mt19937 random(3);
  for (const int64_t head_dim :
       {2, 4, 6, 8, 10, 14, 16, 18, 30, 32, 34, 64, 66, 72, 80, 128, 256}) {
    for (const Specials specials : {Specials::kNone, Specials::kFinite, Specials::kAny}) {
      const std::vector<float> head = RandomFloats(head_dim, random, specials);
      const std::vector<float> cos = RandomFloats(head_dim / 2, random, specials);
      const std::vector<float> sin = RandomFloats(head_dim / 2, random, specials);
      for (const auto rope : {&RowKernels::rope_adjacent, &RowKernels::rope_half_split}) {
        std::vector<float> expected = head;
        std::vector<float> found = head;
        (scalar().rows.*rope)(expected.data(), cos.data(), sin.data(), head_dim);
        (variant().rows.*rope)(found.data(), cos.data(), sin.data(), head_dim);
        ASSERT_TRUE(SameBits(expected, found)) << "head_dim " << head_dim;
      }
    }
  }
}

TEST_P(Rows, RopeRotatesItsLayoutsPairs) {
  const float cos[] = {0.0f, 1.0f};
  const float sin[] = {1.0f, 0.0f};
  std::vector<float> adjacent = {1, 2, 3, 4};
  variant().rows.rope_adjacent(adjacent.data(), cos, sin, 4);
  EXPECT_EQ(adjacent, (std::vector<float>{-2, 1, 3, 4}));
  std::vector<float> split = {1, 2, 3, 4};
  variant().rows.rope_half_split(split.data(), cos, sin, 4);
  EXPECT_EQ(split, (std::vector<float>{-3, 2, 1, 4}));
}

TEST_P(Rows, SiluMulHasTheScalarBits) {
  std::mt19937 random(4);
  for (const int64_t cols : kSizes) {
    const std::vector<float> gate = RandomFloats(cols, random, Specials::kAny);
    const std::vector<float> up = RandomFloats(cols, random, Specials::kAny);
    std::vector<float> expected(gate.size());
    std::vector<float> found(gate.size());
    scalar().rows.silu_mul(gate.data(), up.data(), cols, expected.data());
    variant().rows.silu_mul(gate.data(), up.data(), cols, found.data());
    ASSERT_TRUE(SameBits(expected, found)) << cols << " columns";
  }
}

// Through silu, the only way out for the vector exponential that takes any float.
TEST_P(Rows, SiluMulHasTheScalarBitsOverAllFloats) {
  std::vector<float> gate(4096);
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> expected(gate.size());
  std::vector<float> found(gate.size());
  uint64_t bits = 0;
  while (bits < (uint64_t{1} << 32)) {
    for (float& value : gate) {
      value = std::bit_cast<float>(static_cast<uint32_t>(bits));
      bits += 5003;
    }
    const auto cols = static_cast<int64_t>(gate.size());
    scalar().rows.silu_mul(gate.data(), up.data(), cols, expected.data());
    variant().rows.silu_mul(gate.data(), up.data(), cols, found.data());
    ASSERT_TRUE(SameBits(expected, found)) << "before bits " << bits;
  }
}

TEST_P(Rows, AddFixedHasTheScalarBits) {
  std::mt19937_64 random(5);
  std::mt19937 floats(6);
  for (const int64_t cols : kSizes) {
    std::vector<int64_t> sum(static_cast<size_t>(cols));
    for (int64_t& value : sum) value = static_cast<int64_t>(random()) >> (random() % 64);
    if (cols > 3) {
      sum[0] = INT64_MIN;
      sum[1] = INT64_MAX;
      sum[2] = (int64_t{1} << 62) + (int64_t{1} << 38) + 1;
      sum[3] = -((int64_t{1} << 53) + 1);
    }
    const std::vector<float> residual =
        RandomFloats(cols, floats, cols % 2 == 1 ? Specials::kAny : Specials::kNone);
    std::vector<float> expected = residual;
    std::vector<float> found = residual;
    for (size_t i = 0; i < sum.size(); ++i) expected[i] = expected[i] + math::FromFixed(sum[i]);
    variant().rows.add_fixed(sum.data(), cols, found.data());
    ASSERT_TRUE(SameBits(expected, found)) << cols << " columns";
  }
}

TEST_P(Rows, StoreKvHasTheScalarBytesAndCount) {
  std::mt19937 random(7);
  for (const KvDType dtype : {KvDType::kF16, KvDType::kF32, KvDType::kBF16, KvDType::kInt8}) {
    for (const int64_t head_dim : {2, 14, 16, 18, 24, 64, 66, 80, 128, 256}) {
      for (const int64_t slot : {0, 5, 31}) {
        const Specials specials = slot == 0 ? Specials::kAny : Specials::kFinite;
        const std::vector<float> key = RandomFloats(head_dim, random, specials);
        const std::vector<float> value = RandomFloats(head_dim, random, Specials::kNone);
        std::vector<std::byte> expected(static_cast<size_t>(KvBlockBytes(dtype, head_dim)),
                                        std::byte{0x5A});
        std::vector<std::byte> found = expected;
        const int64_t overflows = scalar().rows.store_kv(dtype, key.data(), value.data(), head_dim,
                                                         slot, expected.data());
        EXPECT_EQ(
            variant().rows.store_kv(dtype, key.data(), value.data(), head_dim, slot, found.data()),
            overflows);
        ASSERT_TRUE(expected == found) << "head_dim " << head_dim << ", slot " << slot;
      }
    }
  }
}

TEST_P(Rows, StoreKvCountsWhatDoesNotFit) {
  std::vector<std::byte> block(static_cast<size_t>(KvBlockBytes(KvDType::kF32, 4)));
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> key = {65519.0f, 65520.0f, -65520.0f, 1e-45f};
  const std::vector<float> value = {3.3895e38f, 3.4e38f, inf, std::nanf("")};
  const auto store = [&](KvDType dtype) {
    return variant().rows.store_kv(dtype, key.data(), value.data(), 4, 3, block.data());
  };
  EXPECT_EQ(store(KvDType::kF16), 2 + 4);
  EXPECT_EQ(store(KvDType::kBF16), 0 + 3);
  EXPECT_EQ(store(KvDType::kF32), 0 + 2);
  EXPECT_EQ(store(KvDType::kInt8), 0 + 2);
}

TEST_P(Rows, StoreKvRoundsTiesToEven) {
  struct Case {
    KvDType dtype;
    float value;
    float stored;
  };
  const Case cases[] = {
      {KvDType::kF16, 0x1.002p0f, 1.0f},
      {KvDType::kF16, 0x1.006p0f, 0x1.008p0f},
      {KvDType::kF16, 0x1p-25f, 0.0f},
      {KvDType::kF16, 0x1.8p-24f, 0x1p-23f},
      {KvDType::kBF16, 0x1.01p0f, 1.0f},
      {KvDType::kBF16, 0x1.03p0f, 0x1.04p0f},
      {KvDType::kBF16, -0x1.010002p0f, -0x1.02p0f},
  };
  for (const Case& c : cases) {
    const std::vector<float> row_values(16, c.value);
    std::vector<std::byte> block(static_cast<size_t>(KvBlockBytes(c.dtype, 16)));
    variant().rows.store_kv(c.dtype, row_values.data(), row_values.data(), 16, 0, block.data());
    uint16_t cell;
    std::memcpy(&cell, block.data(), sizeof(cell));
    EXPECT_EQ(c.dtype == KvDType::kF16 ? F16ToF32(cell) : BF16ToF32(cell), c.stored) << c.value;
  }
}

TEST_P(Rows, StoreKvQuantisesEachKeyAndValueByItsLargestElement) {
  std::vector<std::byte> block(static_cast<size_t>(KvBlockBytes(KvDType::kInt8, 4)));
  const float key[] = {-254, 127, 3, 1};
  const float value[] = {0, -0.0f, 0x1p-101f, 0};
  EXPECT_EQ(variant().rows.store_kv(KvDType::kInt8, key, value, 4, 9, block.data()), 0);
  const auto* cells = reinterpret_cast<const int8_t*>(block.data());
  const int expected[] = {-127, 64, 2, 0};  // 63.5, 1.5 and 0.5 go to the even neighbour.
  for (int i = 0; i < 4; ++i) EXPECT_EQ(cells[i * 32 + 9], expected[i]);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(cells[(32 + 9) * 4 + i], 0);
  float scales[64];
  std::memcpy(scales, block.data() + KvScaleOffset(KvDType::kInt8, 4), sizeof(scales));
  EXPECT_EQ(scales[9], 2);
  EXPECT_EQ(scales[32 + 9], 0);
}

TEST_P(Rows, StoreKvLaysKeysAcrossTheBlockAndValuesAlongIt) {
  std::vector<std::byte> block(static_cast<size_t>(KvBlockBytes(KvDType::kF16, 4)));
  const float key[] = {1, 2, 3, 0x1p-24f};
  const float value[] = {5, 6, 7, 8};
  EXPECT_EQ(variant().rows.store_kv(KvDType::kF16, key, value, 4, 9, block.data()), 0);
  std::vector<uint16_t> cells(block.size() / 2);
  std::memcpy(cells.data(), block.data(), block.size());
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(F16ToF32(cells[i * 32 + 9]), key[i]);
    EXPECT_EQ(F16ToF32(cells[4 * 32 + 9 * 4 + i]), value[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Rows, ::testing::ValuesIn(AllKernelTables()), VariantName);

}  // namespace
}  // namespace shoal::cpu
