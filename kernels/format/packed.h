#pragma once

// Weights and activations as the kernels read them.
//
// A packed matrix is cut into panels of 16 outputs, so that one vector register holds one k for 16
// outputs and lanes never run over k. Within a panel, K ascends. Outputs past the last row are
// zeros. Every panel starts 64-byte aligned.
//
// Float formats: one k is 16 elements as in the file (f16, bf16 or f32).
// Quantised ones: a group is vectors of 64 bytes, in which bytes 4 * o to 4 * o + 3 are output o's:
//   8 bits      vector v, byte j: weight 4 * v + j, plus 128
//   4 to 6 bits a vector for every 8 weights: byte j of vector v holds weight 4 * v + j in its low
//               nibble and weight group / 2 + 4 * v + j in its high nibble, their lower four bits
//     5 bits    then one vector: bit v of byte j is the fifth bit of weight 4 * v + j
//     6 bits    (groups of 16) then one vector: bits 2 * v, 2 * v + 1 of byte j are the fifth and
//               sixth bit of weight 4 * v + j
// (of a group of 128, for each 32 of its weights in turn) and the group's factors, each [16]: f16
// scale and minimum as in the file; in K-quants the group's integer scale (u8, Q6_K: i8) and
// minimum (u8). A K-quant panel starts with a table of the f16 d[16] and dmin[16] of every block of
// 256 weights that it touches, so that neither a cut nor the packing has to round d * scale; an
// INT8 panel starts with the f32 d[16]. block_offset says where in the first of them the panel's K
// begins.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/format/dtype.h"

namespace shoal {

constexpr int64_t kPanelRows = 16;
constexpr int64_t kBlockK = 256;  // Sums restart every 256 k (kernels/ARITHMETIC.md).

struct PackedFacts {
  int64_t bits;           // Of a weight.
  int64_t group_factors;  // Bytes of factors that an output has in every group,
  int64_t block_factors;  // and in the panel's table for every block (INT8: for the row).
};

// By DType.
constexpr PackedFacts kPackedFacts[kDTypeCount] = {
    {32, 0, 0}, {16, 0, 0}, {16, 0, 0}, {8, 2, 0}, {4, 2, 0}, {4, 4, 0}, {5, 2, 0}, {5, 4, 0},
    {4, 2, 4},  {5, 2, 4},  {6, 1, 2},  {4, 2, 0}, {4, 2, 0}, {8, 2, 0}, {8, 0, 4},
};

constexpr const PackedFacts& PackedFactsOf(DType dtype) {
  return kPackedFacts[static_cast<size_t>(dtype)];
}

// What is subtracted from a weight's unsigned bits. IQ4_NL's are an index instead.
constexpr int32_t QuantOffset(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
    case DType::kQ8_G128:
    case DType::kINT8:
      return 128;
    case DType::kQ4_0:
    case DType::kQ4_G128:
      return 8;
    case DType::kQ5_0:
      return 16;
    case DType::kQ6_K:
      return 32;
    default:
      return 0;
  }
}

constexpr int64_t PackedGroupBytes(DType dtype) {
  return kPanelRows *
         (GroupSize(dtype) * PackedFactsOf(dtype).bits / 8 + PackedFactsOf(dtype).group_factors);
}

// Of the table at a panel's start. K may begin inside a block, so one more than fit into `cols`.
constexpr int64_t PackedTableBytes(DType dtype, int64_t cols) {
  const bool of_rows = FactsOf(dtype).row_factor_bytes != 0;
  const int64_t blocks = of_rows ? 1 : (cols + BlockWeights(dtype) - 1) / BlockWeights(dtype) + 1;
  return kPanelRows * PackedFactsOf(dtype).block_factors * blocks;
}

constexpr int64_t PanelCount(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// Padded up to a multiple of 64 bytes.
constexpr int64_t PanelBytes(DType dtype, int64_t cols) {
  const int64_t groups = cols / GroupSize(dtype);
  return (PackedTableBytes(dtype, cols) + groups * PackedGroupBytes(dtype) + 63) / 64 * 64;
}

// A view; the bytes belong to whoever packed them.
struct PackedMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;                 // Outputs.
  int64_t cols = 0;                 // K, of this rank's shard.
  const std::byte* data = nullptr;  // [PanelCount(rows)][PanelBytes(dtype, cols)]
  // Weights between the start of a block in the file and this shard's first: col_begin modulo
  // BlockWeights(dtype).
  int64_t block_offset = 0;

  const std::byte* panel(int64_t index) const { return data + index * PanelBytes(dtype, cols); }
};

// Activation rows, both as floats and, if the reader of them is quantised, as signed bytes in
// groups of the reader's GroupSize, or, if it QuantizesWholeRows, as one group. Row r of the
// quantised form starts at r * cols, r * (cols / group).
struct ActivationRows {
  const float* values = nullptr;   // [rows][cols]
  const int8_t* quants = nullptr;  // [rows][cols]
  const float* scales = nullptr;  // [rows][cols / group]; NaN marks a group with a NaN or infinity.
  const int32_t* sums = nullptr;  // [rows][cols / group]: the sum of the group's quants.
  int64_t rows = 0;
  int64_t cols = 0;
};

// What keys and values are rounded to in the cache.
enum class KvDType : uint8_t { kF16, kF32, kBF16, kInt8 };

constexpr std::string_view ToString(KvDType dtype) {
  constexpr std::string_view kNames[] = {"f16", "f32", "bf16", "int8"};
  return kNames[static_cast<size_t>(dtype)];
}

constexpr int64_t ElementBytes(KvDType dtype) {
  if (dtype == KvDType::kInt8) return 1;
  return dtype == KvDType::kF32 ? 4 : 2;
}

// Of the scale beside each key and each value; none: the elements are the numbers.
constexpr int64_t KvScaleBytes(KvDType dtype) {
  return dtype == KvDType::kInt8 ? int64_t{sizeof(float)} : 0;
}

// A cache block holds 32 positions of one key/value head of one layer: first the keys as
// [head_dim][32] (lanes over keys), then the values as [32][head_dim], then, if there are scales,
// the keys' [32] and the values' [32].
constexpr int64_t kKvBlockTokens = 32;

constexpr int64_t KvScaleOffset(KvDType dtype, int64_t head_dim) {
  return 2 * kKvBlockTokens * head_dim * ElementBytes(dtype);
}

constexpr int64_t KvBlockBytes(KvDType dtype, int64_t head_dim) {
  return KvScaleOffset(dtype, head_dim) + 2 * kKvBlockTokens * KvScaleBytes(dtype);
}

}  // namespace shoal
