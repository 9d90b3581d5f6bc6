#pragma once

// The GGUF container, versions 2 and 3, little-endian (format: the GGUF specification in ggml's
// repository): bytes to metadata and tensors, and the llama family's metadata to a ModelConfig.

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "parallel/model/config/config.h"
#include "parallel/model/model.h"

namespace shoal::model {

// Where a GGUF file holds a Hugging Face tokenizer.json, as text, and (our own key) the
// tokenizer_config.json beside it.
constexpr const char* kGgufTokenizerJsonKey = "tokenizer.huggingface.json";
constexpr const char* kGgufTokenizerConfigKey = "shoal.tokenizer_config.json";

struct GgufContents {
  nlohmann::json metadata;      // As Model::metadata() describes it.
  std::vector<Tensor> tensors;  // In file order; data points into the parsed bytes.
};

// `where` names the file in messages.
// Errors: kInvalidArgument for anything that is not a whole, consistent file: truncated anywhere, a
// count or length larger than the bytes left, a name or key that stands twice, an unknown value or
// tensor type, a dimension of 0 or too large, tensors that overlap, are misaligned or lie past the
// end. Nothing is allocated from a count before the bytes that it counts are known to be there.
GgufContents ParseGguf(std::span<const std::byte> bytes, const std::string& where);

// Errors: kInvalidArgument for another architecture than llama, a missing or ill-typed key, and
// every "llama." key whose effect is not implemented.
ModelConfig ReadGgufConfig(const GgufContents& contents, const std::string& where);

}  // namespace shoal::model
