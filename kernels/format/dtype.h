#pragma once

// Number formats of weights as they lie in model files.
//
// Source: the GGUF specification and ggml's block layouts; safetensors for the float formats. A
// quantised row is a run of blocks along K (the input dimension), of 32 weights:
//   Q4_0    18 bytes: f16 d; 16 bytes of nibbles, low ones weights 0-15, high ones 16-31;
//           w = (q - 8) * d
//   Q4_1    20 bytes: f16 d, f16 m; nibbles; w = q * d + m
//   Q5_0    22 bytes: f16 d; u32, bit i the fifth bit of weight i; nibbles; w = (q - 16) * d
//   Q5_1    24 bytes: f16 d, f16 m; u32 as above; nibbles; w = q * d + m
//   Q8_0    34 bytes: f16 d; 32 signed bytes; w = q * d
//   IQ4_NL  18 bytes: f16 d; nibbles, which index kIq4NlValues; w = value * d
// or of 128 (our own, as INT8 is: files that hold them are for shoal alone):
//   Q4_G128 66 bytes: f16 d; four times 16 bytes of nibbles as in Q4_0; w = (q - 8) * d
//   Q8_G128 130 bytes: f16 d; 128 signed bytes; w = q * d
// or of 256 weights, in groups that have integer scales of their own:
//   Q4_K    144 bytes: f16 d, f16 dmin; 12 bytes, 8 scales and 8 minimums of 6 bits (KScaleMin);
//           32 bytes of nibbles for every two groups of 32, low ones the first group's;
//           w = q * (d * scale) - dmin * minimum
//   Q5_K    176 bytes: as Q4_K, with 32 bytes before the nibbles: bit g of byte i is the fifth bit
//           of weight i of group g
//   Q6_K    210 bytes: 128 bytes of nibbles, 64 bytes of pairs of upper bits (Q6KQuant), 16 signed
//           scales of groups of 16, f16 d; w = (q - 32) * (d * scale)
// INT8 has one scale for each output: a row is f32 d, then its signed bytes; w = q * d.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace shoal {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kQ4_G128,
  kQ8_G128,
  kINT8,
};

constexpr int kDTypeCount = 15;

struct DTypeFacts {
  std::string_view name;
  uint32_t gguf_type;     // Its number in GGUF files.
  int64_t group_weights;  // Along K, that share a scale; a cut never falls inside. 1: floats.
  int64_t block_weights;  // A row is whole blocks of these.
  int64_t block_bytes;
  int64_t row_factor_bytes = 0;  // Before a row's first block.
};

// By DType.
constexpr DTypeFacts kDTypeFacts[kDTypeCount] = {
    {"F32", 0, 1, 1, 4},
    {"F16", 1, 1, 1, 2},
    {"BF16", 30, 1, 1, 2},
    {"Q8_0", 8, 32, 32, 34},
    {"Q4_0", 2, 32, 32, 18},
    {"Q4_1", 3, 32, 32, 20},
    {"Q5_0", 6, 32, 32, 22},
    {"Q5_1", 7, 32, 32, 24},
    {"Q4_K", 12, 32, 256, 144},
    {"Q5_K", 13, 32, 256, 176},
    {"Q6_K", 14, 16, 256, 210},
    {"IQ4_NL", 20, 32, 32, 18},
    // Numbers far from those that ggml counts up, so that other programs refuse them.
    {"Q4_G128", 0x53480001, 128, 128, 66},
    {"Q8_G128", 0x53480002, 128, 128, 130},
    {"INT8", 0x53480003, 32, 32, 32, 4},
};

constexpr const DTypeFacts& FactsOf(DType dtype) { return kDTypeFacts[static_cast<size_t>(dtype)]; }

constexpr std::string_view ToString(DType dtype) { return FactsOf(dtype).name; }

// Weights along K that share a scale, and that the activations are quantised with; a cut never
// falls inside a group. 1 for float formats.
constexpr int64_t GroupSize(DType dtype) { return FactsOf(dtype).group_weights; }

constexpr bool IsQuantized(DType dtype) { return GroupSize(dtype) != 1; }

// Formats whose activations are quantised with one scale for a whole row, across all ranks where a
// cut divides it. GroupSize is then only what leaves and cuts are multiples of.
constexpr bool QuantizesWholeRows(DType dtype) { return dtype == DType::kINT8; }

// Weights of one block in a file: one group, or several that share factors.
constexpr int64_t BlockWeights(DType dtype) { return FactsOf(dtype).block_weights; }

constexpr int64_t BlockBytes(DType dtype) { return FactsOf(dtype).block_bytes; }

// Bytes of a row of `cols` weights in a file; of part of a row that cuts blocks, its share of them,
// rounded up.
constexpr int64_t RowBytes(DType dtype, int64_t cols) {
  return FactsOf(dtype).row_factor_bytes +
         (cols * BlockBytes(dtype) + BlockWeights(dtype) - 1) / BlockWeights(dtype);
}

struct ByteRange {
  int64_t begin;
  int64_t end;
};

// The bytes, within a row, of the blocks that hold columns [col_begin, col_end). A row's own factor
// belongs to its first columns.
constexpr ByteRange BlocksOf(DType dtype, int64_t col_begin, int64_t col_end) {
  const int64_t weights = BlockWeights(dtype);
  const int64_t first = FactsOf(dtype).row_factor_bytes;
  return {col_begin == 0 ? 0 : first + col_begin / weights * BlockBytes(dtype),
          first + (col_end + weights - 1) / weights * BlockBytes(dtype)};
}

// Where in a block its f16 scale and minimum lie; -1: it has none.
struct FactorOffsets {
  int64_t scale;
  int64_t minimum;
};

constexpr FactorOffsets FactorOffsetsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208, -1};
    default:
      return {IsQuantized(dtype) && FactsOf(dtype).row_factor_bytes == 0 ? 0 : -1, -1};
  }
}

// What IQ4_NL's nibbles stand for.
constexpr int8_t kIq4NlValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

struct ScaleMin {
  uint8_t scale;  // 0..63
  uint8_t minimum;
};

// Of group 0..7 of a Q4_K or Q5_K block, from the 12 bytes that hold them: the first four groups'
// six bits lie in bytes 0-3 and 4-7; the others' low four in bytes 8-11, and their upper two above
// the first four's.
constexpr ScaleMin KScaleMin(const std::byte* packed, int64_t group) {
  const auto at = [packed](int64_t i) { return std::to_integer<unsigned>(packed[i]); };
  if (group < 4) {
    return {static_cast<uint8_t>(at(group) & 63u), static_cast<uint8_t>(at(group + 4) & 63u)};
  }
  return {static_cast<uint8_t>((at(group + 4) & 15u) | (at(group - 4) >> 6 << 4)),
          static_cast<uint8_t>((at(group + 4) >> 4) | (at(group) >> 6 << 4))};
}

// The inverse: the 12 bytes of 8 pairs.
constexpr void PackKScaleMins(const ScaleMin* pairs, std::byte* packed) {
  for (int64_t g = 0; g < 4; ++g) {
    const ScaleMin low = pairs[g];
    const ScaleMin high = pairs[g + 4];
    packed[g] = static_cast<std::byte>(low.scale | high.scale >> 4 << 6);
    packed[g + 4] = static_cast<std::byte>(low.minimum | high.minimum >> 4 << 6);
    packed[g + 8] = static_cast<std::byte>((high.scale & 15u) | (high.minimum & 15u) << 4);
  }
}

// The six bits of weight 0..255 of a Q6_K block. Each half of 128 weights has 64 bytes of nibbles
// (weights 0-63 low, 64-127 high) and 32 bytes whose bit pairs are the upper bits of weights i,
// i + 32, i + 64 and i + 96.
constexpr unsigned Q6KQuant(const std::byte* block, int64_t weight) {
  const int64_t half = weight / 128;
  const int64_t in_half = weight % 128;
  const auto nibbles = std::to_integer<unsigned>(block[64 * half + in_half % 64]);
  const auto pairs = std::to_integer<unsigned>(block[128 + 32 * half + in_half % 32]);
  const unsigned low = in_half < 64 ? nibbles & 15u : nibbles >> 4;
  return low | ((pairs >> (in_half / 32 * 2)) & 3u) << 4;
}

}  // namespace shoal
