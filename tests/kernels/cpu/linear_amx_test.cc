// The AMX variant's linear layers with its tile instructions emulated, against the scalar one, bit
// by bit: what a machine without AMX can check of them.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/linear/amx/int8_tiles.h"
#include "kernels/cpu/linear/amx/tile_kernel.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"
#include "kernels/format/half.h"
#include "kernels/math/scalar.h"
#include "tests/kernels/cpu/linear_cases.h"

namespace shoal::cpu {
namespace {

// What the tile instructions do, in the shapes that the AMX variant configures.
struct EmulatedTiles {
  static void Multiply(const int8_t* rows, int64_t stride, const int8_t* weights, int32_t* dots) {
    for (int r = 0; r < 16; ++r) {
      for (int output = 0; output < 16; ++output) {
        int32_t dot = 0;
        for (int k = 0; k < 32; ++k) {
          dot += rows[r * stride + k] * weights[k / 4 * 64 + 4 * output + k % 4];
        }
        dots[r * 16 + output] = dot;
      }
    }
  }
};

struct EmulatedInt8Tiles {
  template <int kTiles>
  void Clear() {
    std::memset(sums, 0x55, sizeof(sums));
    for (auto& panel : sums) std::memset(panel, 0, kTiles * sizeof(panel[0]) * 16);
  }
  template <int kTiles>
  void MultiplyAdd(const TileRows* rows, const uint8_t* const* weights) {
    for (int panel = 0; panel < 2; ++panel) {
      for (int row = 0; row < 16 * kTiles; ++row) {
        const int8_t* from = rows[row / 16].rows + row % 16 * rows[row / 16].stride;
        for (int i = 0; i < 16 * 64; ++i) {
          sums[panel][row][i % 64 / 4] += from[i / 64 * 4 + i % 4] * weights[panel][i];
        }
      }
    }
  }
  template <int kTiles>
  void Store(int32_t (*dots)[32][16]) {
    std::memcpy(dots, sums, sizeof(sums));
  }

  int32_t sums[2][32][16];
};

// The operations of the AMX variant's lanes, one float at a time.
struct PlainLanes {
  static constexpr uint64_t kFixedBias = 0;

  static constexpr Ahead StreamAhead(int) { return kStreamAhead; }
  template <typename Function>
  static PlainLanes Each(Function function) {
    PlainLanes lanes;
    for (int i = 0; i < 16; ++i) lanes.v[i] = function(i);
    return lanes;
  }
  static PlainLanes Zero() { return Broadcast(0.0F); }
  static PlainLanes Broadcast(float x) {
    return Each([&](int) { return x; });
  }
  static PlainLanes LoadLanes(const float* from) {
    return Each([&](int i) { return from[i]; });
  }
  static PlainLanes FromHalves(const uint8_t* from) {
    return Each([&](int i) {
      uint16_t bits;
      std::memcpy(&bits, from + 2 * i, 2);
      return F16ToF32(bits);
    });
  }
  static PlainLanes FromDots(const int32_t* dots) {
    return Each([&](int i) { return static_cast<float>(dots[i]); });
  }
  static PlainLanes FromDots(const int32_t* dots, int32_t start) {
    return Each([&](int i) { return static_cast<float>(dots[i] + start); });
  }
  static PlainLanes Scaled(PlainLanes a, float x) {
    return Each([&](int i) { return a.v[i] * x; });
  }
  static PlainLanes PlusProduct(PlainLanes a, PlainLanes b, PlainLanes sum) {
    return Each([&](int i) { return std::fma(a.v[i], b.v[i], sum.v[i]); });
  }
  static void UnpackNibbles(const uint8_t* from, int offset, int8_t* to) {
    for (int i = 0; i < 256; ++i) {
      to[i] = static_cast<int8_t>((from[i] & 15) - offset);
      to[256 + i] = static_cast<int8_t>((from[i] >> 4) - offset);
    }
  }
  static void UnpackBytes(const uint8_t* from, int offset, int8_t* to) {
    for (int i = 0; i < 512; ++i) to[i] = static_cast<int8_t>(from[i] - offset);
  }
  static void CopyFactors(const float* scales, const int32_t* sums, int64_t groups, float* to,
                          float* minimums) {
    for (int64_t g = 0; g < groups; ++g) {
      to[g] = scales[g];
      if (minimums != nullptr) minimums[g] = scales[g] * static_cast<float>(sums[g]);
    }
  }
  static uint32_t AddFixed(PlainLanes y, float limit, int64_t* sums) {
    uint32_t bad = 0;
    for (int i = 0; i < 16; ++i) {
      if (std::fabs(y.v[i]) < limit) {
        sums[i] += math::ToFixed(y.v[i]);
      } else {
        bad |= uint32_t{1} << i;
      }
    }
    return bad;
  }
  void StoreLanes(float* to) const { std::memcpy(to, v, sizeof(v)); }
  void StoreOutputs(float* to, int64_t count) const {
    std::memcpy(to, v, static_cast<size_t>(count) * sizeof(float));
  }
  PlainLanes operator+(PlainLanes other) const {
    return Each([&](int i) { return v[i] + other.v[i]; });
  }

  float v[16];
};

template <DType kType, typename Call>
void RunEmulated(const Call& call) {
  RunAnyRows<TileKernel<kType, EmulatedTiles, PlainLanes>>(call);
}

template <typename Call>
void RunEmulatedInt8(const Call& call) {
  ComputeInt8<Int8Tiles<EmulatedInt8Tiles, PlainLanes>>(call);
}

KernelTable Emulated() {
  KernelTable variant = AllKernelTables().back();
  variant.name = "emulated tiles";
  variant.linear.whole[static_cast<int>(DType::kQ8_0)] = RunEmulated<DType::kQ8_0, LinearCall>;
  variant.linear.whole[static_cast<int>(DType::kQ4_0)] = RunEmulated<DType::kQ4_0, LinearCall>;
  variant.linear.whole[static_cast<int>(DType::kQ4_1)] = RunEmulated<DType::kQ4_1, LinearCall>;
  variant.linear.leaves[static_cast<int>(DType::kQ8_0)] = RunEmulated<DType::kQ8_0, LeafLinearCall>;
  variant.linear.leaves[static_cast<int>(DType::kQ4_0)] = RunEmulated<DType::kQ4_0, LeafLinearCall>;
  variant.linear.leaves[static_cast<int>(DType::kQ4_1)] = RunEmulated<DType::kQ4_1, LeafLinearCall>;
  variant.linear.whole[static_cast<int>(DType::kINT8)] = RunEmulatedInt8<LinearCall>;
  variant.linear.leaves[static_cast<int>(DType::kINT8)] = RunEmulatedInt8<LeafLinearCall>;
  return variant;
}

class EmulatedTileLayers : public testing::TestWithParam<DType> {
 protected:
  void ExpectScalarBits(int64_t outputs, int64_t cols, int64_t rows, Values values) {
    SCOPED_TRACE(testing::Message()
                 << outputs << " outputs, K " << cols << ", " << rows << " rows");
    const PackedTensor weights(RandomTensor(GetParam(), outputs, cols, values, random_));
    const Activations input(rows, cols, RandomValues(rows * cols, values, random_));
    EXPECT_EQ(RunLinear(Emulated(), weights.matrix(), input),
              RunLinear(AllKernelTables().back(), weights.matrix(), input));
  }

  std::mt19937 random_{20};
};

TEST_P(EmulatedTileLayers, GiveTheScalarBits) {
  for (const Values values : {Values::kOrdinary, Values::kExtreme}) {
    for (const int64_t cols : {32, 96, 256, 288, 576}) {
      ExpectScalarBits(149, cols, 15, values);
      for (const int64_t rows : {1, 8, 16, 17, 33, 64}) ExpectScalarBits(37, cols, rows, values);
    }
    ExpectScalarBits(20, 4096, 17, values);
  }
}

// More rows than INT8's tiles keep in the cache at once.
TEST_P(EmulatedTileLayers, GiveTheScalarBitsForManyWideRows) {
  ExpectScalarBits(20, 8192, 150, Values::kOrdinary);
}

TEST_P(EmulatedTileLayers, GiveTheScalarLeavesAndCountTheSameInvalidOnes) {
  constexpr int64_t kRows = 43;
  for (const Values values : {Values::kOrdinary, Values::kExtreme}) {
    for (const int64_t leaf : {32, 64, 96, 128, 256, 320, 1024}) {
      for (const float limit : {0x1p26F, 1.0F}) {
        SCOPED_TRACE(testing::Message() << "leaf " << leaf << ", limit " << limit);
        const PackedTensor weights(RandomTensor(GetParam(), 37, 704, values, random_));
        const Activations input(kRows, 704, RandomValues(kRows * 704, values, random_));
        EXPECT_EQ(RunLeafLinear(Emulated(), weights.matrix(), input, leaf, limit),
                  RunLeafLinear(AllKernelTables().back(), weights.matrix(), input, leaf, limit));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(QuantisedFormats, EmulatedTileLayers,
                         testing::Values(DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kINT8),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace shoal::cpu
