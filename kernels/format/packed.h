#pragma once

// Weights and activations as the kernels read them.
//
// A packed matrix is cut into panels of 16 outputs, so that one vector register holds one k for 16
// outputs and lanes never run over k. Within a panel, K ascends. Outputs past the last row are
// zeros.
//   Q4    a group of 32 k: 4 x 64 bytes; byte 4 * o + j of vector v holds output o's weight
//         4 * v + j in its low nibble and 16 + 4 * v + j in its high nibble (0..15); then f16
//         d[16] and f16 m[16]. Q4_0 has no m, and 8 is subtracted in the integer dot.
//   Q8    a group of 32 k: 8 x 64 bytes; byte 4 * o + j of vector v holds output o's weight
//         4 * v + j, plus 128; then f16 d[16].
//   float one k: 16 elements as in the file (f16, bf16 or f32).
// Every panel starts 64-byte aligned.

#include <cstddef>
#include <cstdint>

#include "kernels/format/dtype.h"

namespace shoal {

constexpr int64_t kPanelRows = 16;
constexpr int64_t kBlockK = 256;  // Sums restart every 256 k (kernels/README.md).

constexpr int64_t PackedGroupBytes(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return 4 * 64 + 32;
    case DType::kQ4_1:
      return 4 * 64 + 64;
    case DType::kQ8_0:
      return 8 * 64 + 32;
    case DType::kF16:
    case DType::kBF16:
      return 32;
    case DType::kF32:
      return 64;
  }
  return 0;
}

constexpr int64_t PanelCount(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// Padded up to a multiple of 64 bytes.
constexpr int64_t PanelBytes(DType dtype, int64_t cols) {
  return (cols / GroupSize(dtype) * PackedGroupBytes(dtype) + 63) / 64 * 64;
}

// A view; the bytes belong to whoever packed them.
struct PackedMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;                 // Outputs.
  int64_t cols = 0;                 // K, of this rank's shard.
  const std::byte* data = nullptr;  // [PanelCount(rows)][PanelBytes(dtype, cols)]

  const std::byte* panel(int64_t index) const { return data + index * PanelBytes(dtype, cols); }
};

// Activation rows, both as floats and, if the reader of them is quantised, as groups of 32 signed
// bytes. Row r of the quantised form starts at r * cols, r * (cols / 32).
struct ActivationRows {
  const float* values = nullptr;   // [rows][cols]
  const int8_t* quants = nullptr;  // [rows][cols]
  const float* scales = nullptr;  // [rows][cols / 32]; NaN marks a group with a NaN or an infinity.
  const int32_t* sums = nullptr;  // [rows][cols / 32]: the sum of the group's quants.
  int64_t rows = 0;
  int64_t cols = 0;
};

// What keys and values are rounded to in the cache.
enum class KvDType : uint8_t { kF16, kF32, kBF16 };

constexpr int64_t ElementBytes(KvDType dtype) { return dtype == KvDType::kF32 ? 4 : 2; }

// A cache block holds 32 positions of one key/value head of one layer: first the keys as
// [head_dim][32] (lanes over keys), then the values as [32][head_dim].
constexpr int64_t kKvBlockTokens = 32;

constexpr int64_t KvBlockBytes(KvDType dtype, int64_t head_dim) {
  return 2 * kKvBlockTokens * head_dim * ElementBytes(dtype);
}

}  // namespace shoal
