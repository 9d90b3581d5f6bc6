#pragma once

// The other direction of gguf.h: what a GGUF file holds before its tensors' data.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "kernels/format/dtype.h"
#include "parallel/model/model.h"

namespace shoal::model {

// A tensor of the file to be.
struct GgufTensorPlan {
  std::string name;
  DType dtype = DType::kF32;
  int64_t rows = 1;  // 1: written as a vector.
  int64_t cols = 0;

  int64_t bytes() const { return rows * RowBytes(dtype, cols); }
};

constexpr int64_t kGgufAlignment = 32;

constexpr int64_t GgufPadding(int64_t bytes) {
  return (kGgufAlignment - bytes % kGgufAlignment) % kGgufAlignment;
}

// Version 3 up to the first tensor's data, padded. The tensors follow in this order, each padded
// with GgufPadding(bytes()) zeros. `metadata` as Model::metadata() has it; numbers are written as
// the smallest of u32, i32, u64, i64, f32 and f64 that keeps their sign and value.
// Errors: kInvalidArgument for a metadata value that GGUF has no type for, naming the key.
std::string GgufHeader(const nlohmann::json& metadata, std::span<const GgufTensorPlan> tensors);

// A model's metadata for a GGUF file: the file's own, or made from a folder's configuration and
// tokenizer (whose tokenizer.json goes in whole). Without keys that describe one file's layout.
nlohmann::json GgufMetadata(const Model& model);

}  // namespace shoal::model
