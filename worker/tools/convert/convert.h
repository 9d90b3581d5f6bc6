#pragma once

// `convert`: a model in another weight format, as a GGUF file.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/format/dtype.h"
#include "worker/tools/convert/calibration.h"

namespace shoal::rank {

struct ConvertOptions {
  std::string model;   // A GGUF file or a safetensors folder.
  std::string output;  // The file to write.
  DType to = DType::kQ8_0;
  int32_t threads = 0;  // 0: all cores.
  // What to balance the layers with, as BalanceFactors; called once the output can be written.
  // None: the weights as they are.
  std::function<std::vector<LayerChannels>()> factors = nullptr;
};

struct ConvertReport {
  int64_t matrix_weights = 0;
  int64_t source_bytes = 0;  // Of all tensors.
  int64_t output_bytes = 0;
};

// The format that a matrix of `cols` inputs gets when `to` is asked for: `to`, unless its rows are
// no whole blocks of it; then one of a few more bits in blocks of 32 (Q5_0 for Q4_K, Q5_1 for Q5_K,
// Q4_0 for Q4_G128, Q8_0), then F16. Embedding and output head keep 8 bits at least.
DType FormatOf(DType to, int64_t cols, bool is_vocabulary);

// Widens every matrix to f32 and rounds it to FormatOf; norms become F32. The model's metadata and
// tokenizer go along. Result: a function of the source, `to` and `factors` alone. Errors: those of
// Model::Open, NewFile and `factors`; kInvalidArgument, naming tensor and row, for weights that are
// not finite or too large for the format.
ConvertReport Convert(const ConvertOptions& options);

}  // namespace shoal::rank
