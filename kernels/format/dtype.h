#pragma once

// Number formats of weights as they lie in model files.
//
// Source: the GGUF specification and ggml's block layouts for Q4_0, Q4_1 and Q8_0; safetensors for
// the float formats. A quantised row is a run of blocks along K (the input dimension):
//   Q4_0  18 bytes: f16 d; 16 bytes, low nibbles weights 0-15, high nibbles 16-31;  w = (q - 8) * d
//   Q4_1  20 bytes: f16 d, f16 m; 16 bytes of nibbles as above;                     w = q * d + m
//   Q8_0  34 bytes: f16 d; 32 signed bytes;                                         w = q * d

#include <cstdint>
#include <string_view>

namespace shoal {

enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

constexpr int kDTypeCount = 6;

constexpr std::string_view ToString(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kQ8_0:
      return "Q8_0";
    case DType::kQ4_0:
      return "Q4_0";
    case DType::kQ4_1:
      return "Q4_1";
  }
  return "?";
}

// Weights along K that share a scale; a cut never falls inside a group. 1 for float formats.
constexpr int64_t GroupSize(DType dtype) {
  return dtype == DType::kQ8_0 || dtype == DType::kQ4_0 || dtype == DType::kQ4_1 ? 32 : 1;
}

constexpr bool IsQuantized(DType dtype) { return GroupSize(dtype) != 1; }

// Bytes of one group in a file.
constexpr int64_t GroupBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kQ8_0:
      return 34;
    case DType::kQ4_0:
      return 18;
    case DType::kQ4_1:
      return 20;
  }
  return 0;
}

// Bytes of a row of `cols` weights in a file. `cols` is a multiple of the group.
constexpr int64_t RowBytes(DType dtype, int64_t cols) {
  return cols / GroupSize(dtype) * GroupBytes(dtype);
}

}  // namespace shoal
