#pragma once

// Finds a model's tensors among those of a file, by its family's table of names and shapes.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/model/config/config.h"
#include "parallel/model/model.h"

namespace shoal::model {

enum class NameScheme : uint8_t { kGguf, kHuggingFace };

// Whether the output head is the embedding.
enum class TiedOutput : uint8_t { kNo, kYes, kIfAbsent };

// Sets config.vocab_size from the embedding's rows, and config.rope.frequency_divisors from
// rope_freqs.weight where there is one. The result points into `tensors`.
// Errors: kInvalidArgument for a missing tensor, a tensor of another shape than `config` implies, a
// norm that is quantised, an output head that differs from the embedding that it is said to be, and
// every tensor that has no place in the model: it would be ignored. What is not needed, and changes
// nothing, is added to `notes`.
ModelTensors ResolveTensors(std::span<const Tensor> tensors, NameScheme scheme, TiedOutput tied,
                            ModelConfig& config, const std::string& where,
                            std::vector<std::string>& notes);

// A tensor of a model under the name that it has in GGUF files.
struct NamedTensor {
  std::string name;
  const Tensor* tensor;
  int64_t layer = -1;
  const TensorSpec* spec = nullptr;  // Of the layer's tensors; null: it is outside the layers.
};

// All tensors of the model, in the order of a forward pass; a tied head is not listed.
std::vector<NamedTensor> GgufTensors(const ModelTensors& tensors);

}  // namespace shoal::model
