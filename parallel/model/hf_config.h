#pragma once

// A Hugging Face config.json of the llama family, with the old and the new names of its keys.

#include <nlohmann/json.hpp>
#include <string>

#include "parallel/model/config.h"
#include "parallel/model/resolve.h"

namespace shoal::model {

struct HfConfig {
  ModelConfig model;  // vocab_size as config.json has it; the embedding must agree.
  TiedOutput tied = TiedOutput::kNo;
};

// `generation` is generation_config.json's object, or null; its EOS ids win over config's.
// Errors: kInvalidArgument for another model type, a missing or ill-typed key, and every setting
// that would change the answers and is not implemented (biases, other activations, rope types,
// quantisation...).
HfConfig ReadHfConfig(const nlohmann::json& config, const nlohmann::json& generation,
                      const std::string& where);

}  // namespace shoal::model
