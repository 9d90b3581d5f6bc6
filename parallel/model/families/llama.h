#pragma once

// Llama and what has its shape: grouped-query attention with rope, then a gated MLP, a norm before
// each, no biases, every layer alike but for the MLP's width.

#include "parallel/model/layer_spec.h"

namespace shoal::model {

LayerSpec LlamaLayer(const ModelConfig& config, int64_t layer);

inline constexpr Family kLlama = {"llama", "LlamaForCausalLM", LlamaLayer};

}  // namespace shoal::model
