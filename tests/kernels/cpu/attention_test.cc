// Attention of every variant against the scalar one, bit by bit, and of the scalar one
// against double precision.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/format/half.h"
#include "tests/kernels/cpu/every_variant.h"

namespace shoal::cpu {
namespace {

constexpr KvDType kAllKvDTypes[] = {KvDType::kF16, KvDType::kF32, KvDType::kBF16, KvDType::kInt8};

struct Shape {
  KvDType dtype = KvDType::kF16;
  int64_t head_dim = 16;
  int64_t head_count = 1;
  int64_t position_begin = 0;
  int64_t row_count = 1;
};

// A sequence with a cache of shuffled blocks. What lies after its last key is NaN, and must not be
// seen; blocks that it does not own do not exist.
class Sequence {
 public:
  Sequence(const Shape& shape, std::mt19937& random, Specials specials)
      : shape_(shape),
        keys_(RandomFloats(positions() * shape.head_dim, random, specials)),
        values_(RandomFloats(positions() * shape.head_dim, random, specials)),
        query_(
            RandomFloats(shape.row_count * shape.head_count * shape.head_dim, random, specials)) {
    const int64_t block_count = (positions() + kKvBlockTokens - 1) / kKvBlockTokens;
    table_.resize(static_cast<size_t>(block_count));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), random);
    cache_.assign(static_cast<size_t>(block_count * block_bytes()), std::byte{0xFF});
    for (int64_t position = 0; position < positions(); ++position) {
      const int64_t block = table_[static_cast<size_t>(position / kKvBlockTokens)];
      AllKernelTables().back().rows.store_kv(shape.dtype, keys_.data() + position * shape.head_dim,
                                             values_.data() + position * shape.head_dim,
                                             shape.head_dim, position % kKvBlockTokens,
                                             cache_.data() + block * block_bytes());
    }
  }

  std::vector<float> Attend(const KernelTable& variant) const {
    const int64_t width = shape_.head_count * shape_.head_dim;
    std::vector<float> output(static_cast<size_t>(shape_.row_count * width), 9.0f);
    std::vector<float> scratch(
        static_cast<size_t>(AttentionScratchFloats(shape_.head_dim, shape_.head_count)),
        std::nanf(""));
    AttentionCall call = {
        .dtype = shape_.dtype,
        .head_dim = shape_.head_dim,
        .head_count = shape_.head_count,
        .position_begin = shape_.position_begin,
        .row_count = shape_.row_count,
        .query = query_.data(),
        .query_stride = width,
        .output = output.data(),
        .output_stride = width,
        .blocks = cache_.data(),
        .block_stride = block_bytes(),
        .block_table = table_.data(),
        .scratch = scratch.data(),
    };
    variant.attention.attend(call);
    return output;
  }

  // One element in double precision, and the tolerance that single precision needs for it.
  double Exact(int64_t row, int64_t head, int64_t d, double* tolerance) const {
    const int64_t dim = shape_.head_dim;
    const float* q = query_.data() + (row * shape_.head_count + head) * dim;
    const int64_t count = shape_.position_begin + row + 1;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    std::vector<double> scores(static_cast<size_t>(count));
    double score_error = 0;
    for (int64_t j = 0; j < count; ++j) {
      double magnitude = 0;
      for (int64_t i = 0; i < dim; ++i) {
        const double product = double{q[i]} * Rounded(keys_, j * dim + i);
        scores[static_cast<size_t>(j)] += product * scale;
        magnitude += std::fabs(product * scale);
      }
      score_error = std::max(score_error, static_cast<double>(dim + 2) * 0x1p-24 * magnitude);
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    double output = 0;
    double magnitude = 0;
    for (int64_t j = 0; j < count; ++j) {
      const double weight = std::exp(scores[static_cast<size_t>(j)] - max);
      const double value = Rounded(values_, j * dim + d);
      sum += weight;
      output += weight * value;
      magnitude += weight * std::fabs(value);
    }
    // Twice a weight's relative error (its score, the maximum, 2 ulp of exp), and a chain of at
    // most 256 keys and a few roundings for each segment.
    const double chain = 256 + 8 * static_cast<double>(count / kSegmentKeys + 1);
    *tolerance = (4 * score_error + 8 * 0x1p-24 + chain * 0x1p-24) * magnitude / sum;
    return output / sum;
  }

 private:
  int64_t positions() const { return shape_.position_begin + shape_.row_count; }
  int64_t block_bytes() const { return KvBlockBytes(shape_.dtype, shape_.head_dim); }

  // Element `index` as the cache holds it.
  float Rounded(const std::vector<float>& all, int64_t index) const {
    const float value = all[static_cast<size_t>(index)];
    if (shape_.dtype == KvDType::kInt8) {
      const auto row = all.begin() + index / shape_.head_dim * shape_.head_dim;
      float amax = 0;
      for (auto x = row; x != row + shape_.head_dim; ++x) amax = std::max(amax, std::fabs(*x));
      return std::nearbyint(value * (127.0f / amax)) * (amax / 127.0f);
    }
    if (shape_.dtype == KvDType::kF16) return F16ToF32(F32ToF16(value));
    if (shape_.dtype == KvDType::kBF16) return BF16ToF32(F32ToBF16(value));
    return value;
  }

  Shape shape_;
  std::vector<float> keys_;
  std::vector<float> values_;
  std::vector<float> query_;
  std::vector<int32_t> table_;
  std::vector<std::byte> cache_;
};

// What the last of `keys` positions' query makes of all of them, in float32. `blocks`: those of one
// head, in order.
std::vector<float> AttendToAll(const KernelTable& variant, const std::vector<std::byte>& blocks,
                               int64_t keys, const std::vector<float>& query) {
  const auto head_dim = static_cast<int64_t>(query.size());
  std::vector<int32_t> table((keys + kKvBlockTokens - 1) / kKvBlockTokens);
  std::iota(table.begin(), table.end(), 0);
  std::vector<float> output(query.size());
  std::vector<float> scratch(static_cast<size_t>(AttentionScratchFloats(head_dim, 1)));
  variant.attention.attend({.dtype = KvDType::kF32,
                            .head_dim = head_dim,
                            .head_count = 1,
                            .position_begin = keys - 1,
                            .row_count = 1,
                            .query = query.data(),
                            .query_stride = head_dim,
                            .output = output.data(),
                            .output_stride = head_dim,
                            .blocks = blocks.data(),
                            .block_stride = KvBlockBytes(KvDType::kF32, head_dim),
                            .block_table = table.data(),
                            .scratch = scratch.data()});
  return output;
}

class Attention : public EveryVariant {
 protected:
  void Compare(const Shape& shape, std::mt19937& random, Specials specials = Specials::kNone) {
    SCOPED_TRACE(::testing::Message()
                 << "dtype " << static_cast<int>(shape.dtype) << ", head_dim " << shape.head_dim
                 << ", heads " << shape.head_count << ", position " << shape.position_begin
                 << ", rows " << shape.row_count << ", specials " << static_cast<int>(specials));
    const Sequence sequence(shape, random, specials);
    ASSERT_TRUE(SameBits(sequence.Attend(scalar()), sequence.Attend(variant())));
  }
};

TEST_P(Attention, HasTheScalarBitsForAnyNumberOfKeys) {
  std::mt19937 random(1);
  for (const int64_t keys : {1,  2,   7,   8,   9,   15,  16,  17,  31,  32,  33,  64, 80,
                             96, 127, 128, 160, 255, 256, 257, 300, 511, 512, 513, 640}) {
    for (const KvDType dtype : kAllKvDTypes) {
      Compare({.dtype = dtype, .head_dim = 16, .position_begin = keys - 1}, random);
      Compare({.dtype = dtype, .head_count = 3, .position_begin = keys - 1}, random);
    }
  }
}

TEST_P(Attention, HasTheScalarBitsForAnyEvenHeadDim) {
  std::mt19937 random(2);
  for (const int64_t head_dim :
       {2, 8, 14, 16, 18, 24, 30, 32, 34, 48, 64, 66, 72, 80, 96, 112, 128, 130, 192, 256}) {
    for (const KvDType dtype : kAllKvDTypes) {
      Compare({.dtype = dtype, .head_dim = head_dim, .head_count = 3, .position_begin = 40},
              random);
      Compare({.dtype = dtype, .head_dim = head_dim, .position_begin = 250, .row_count = 9},
              random);
    }
  }
}

TEST_P(Attention, HasTheScalarBitsForAnyRowsAndHeads) {
  std::mt19937 random(3);
  for (const int64_t head_count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16}) {
    for (const int64_t row_count : {1, 2, 3, 4, 5, 7, 8, 17, 33}) {
      // From the first position, and across the end of a segment.
      for (const int64_t begin : {0, 240}) {
        Compare({.head_count = head_count, .position_begin = begin, .row_count = row_count},
                random);
      }
    }
  }
}

TEST_P(Attention, HasTheScalarBitsAcrossTheEndOfASpan) {
  std::mt19937 random(4);
  Compare({.head_count = 2, .position_begin = kSpanKeys - 3, .row_count = 7}, random);
  Compare({.head_dim = 18, .position_begin = 2 * kSpanKeys + 300, .row_count = 2}, random);
  Compare({.dtype = KvDType::kF32, .position_begin = kSpanKeys - 1}, random);
}

TEST_P(Attention, HasTheScalarBitsForSpecialNumbers) {
  std::mt19937 random(5);
  for (const KvDType dtype : kAllKvDTypes) {
    for (const int64_t keys : {1, 3, 30, 300}) {
      for (const Specials specials : {Specials::kFinite, Specials::kFinite, Specials::kAny}) {
        Compare({.dtype = dtype, .head_count = 2, .position_begin = keys - 1, .row_count = 3},
                random, specials);
      }
    }
  }
}

// A number that is not one must not come out as one, wherever among the lanes it goes in.
TEST_P(Attention, GivesNaNForAKeyThatIsNaN) {
  std::mt19937 random(6);
  const int64_t head_dim = 16;
  for (const int64_t position : {0, 5, 17, 39}) {
    std::vector<std::byte> block(static_cast<size_t>(2 * KvBlockBytes(KvDType::kF32, head_dim)));
    for (int64_t p = 0; p < 40; ++p) {
      std::vector<float> key = RandomFloats(head_dim, random);
      if (p == position) key[3] = std::nanf("");
      scalar().rows.store_kv(KvDType::kF32, key.data(), key.data() + 0, head_dim, p % 32,
                             block.data() + p / 32 * KvBlockBytes(KvDType::kF32, head_dim));
    }
    const std::vector<float> query = RandomFloats(head_dim, random);
    const std::vector<float> output = AttendToAll(variant(), block, 40, query);
    for (const float value : output) EXPECT_TRUE(std::isnan(value)) << "key " << position;
  }
}

// A key far below the largest score has a weight that is subnormal, which a huge value shows.
TEST_P(Attention, HasTheScalarBitsForSubnormalWeights) {
  constexpr int64_t kHeadDim = 16;
  constexpr int64_t kKeys = 32;
  std::mt19937 random(8);
  std::uniform_real_distribution<float> score(-104.0f, -87.0f);
  std::vector<float> query(kHeadDim, 0.0f);
  query[0] = 4;  // The root of head_dim: a key's first element is its score.
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> block(static_cast<size_t>(KvBlockBytes(KvDType::kF32, kHeadDim)));
    for (int64_t p = 0; p < kKeys; ++p) {
      std::vector<float> key(kHeadDim, 0.0f);
      std::vector<float> value(kHeadDim, 0.0f);
      if (p > 0) key[0] = score(random);
      if (p > 0) value[p % kHeadDim] = 1e38f;
      scalar().rows.store_kv(KvDType::kF32, key.data(), value.data(), kHeadDim, p, block.data());
    }
    const std::vector<float> expected = AttendToAll(scalar(), block, kKeys, query);
    ASSERT_TRUE(SameBits(expected, AttendToAll(variant(), block, kKeys, query)))
        << "round " << round;
    EXPECT_GT(*std::max_element(expected.begin(), expected.end()), 0.0f);
  }
}

// Rows computed together give what they give one at a time: the batch is not part of the answer.
TEST_P(Attention, DoesNotDependOnHowRowsAreBatched) {
  std::mt19937 random(7);
  const Shape shape = {.head_dim = 32, .head_count = 3, .position_begin = 0, .row_count = 270};
  const Sequence sequence(shape, random, Specials::kNone);
  const std::vector<float> together = sequence.Attend(variant());
  const std::vector<float> expected = sequence.Attend(scalar());
  EXPECT_TRUE(SameBits(expected, together));
}

TEST_P(Attention, NearsDoublePrecision) {
  std::mt19937 random(8);
  for (const Shape shape :
       {Shape{.head_dim = 64, .head_count = 3, .position_begin = 0, .row_count = 3},
        Shape{.dtype = KvDType::kF32, .head_dim = 80, .head_count = 2, .position_begin = 300},
        Shape{.dtype = KvDType::kBF16, .head_dim = 16, .position_begin = 8400, .row_count = 2},
        Shape{.dtype = KvDType::kInt8, .head_dim = 64, .head_count = 3, .position_begin = 500}}) {
    const Sequence sequence(shape, random, Specials::kNone);
    const std::vector<float> found = sequence.Attend(variant());
    for (int64_t r = 0; r < shape.row_count; ++r) {
      for (int64_t head = 0; head < shape.head_count; ++head) {
        for (int64_t d = 0; d < shape.head_dim; d += 5) {
          double tolerance = 0;
          const double exact = sequence.Exact(r, head, d, &tolerance);
          const int64_t at = (r * shape.head_count + head) * shape.head_dim + d;
          ASSERT_NEAR(found[static_cast<size_t>(at)], exact, tolerance);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Attention, ::testing::ValuesIn(AllKernelTables()), VariantName);

}  // namespace
}  // namespace shoal::cpu
