#pragma once

// A Hugging Face config.json of the llama family, with the old and the new names of its keys.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "parallel/model/config/config.h"
#include "parallel/model/resolve.h"

namespace shoal::model {

struct HfConfig {
  ModelConfig model;  // vocab_size as config.json has it; the embedding must agree.
  TiedOutput tied = TiedOutput::kNo;
};

// Without EOS ids, which more files than this one name (end_ids.h).
// Errors: kInvalidArgument for another model type, a missing or ill-typed key, and every setting
// that would change the answers and is not implemented (biases, other activations, rope types,
// quantisation...).
HfConfig ReadHfConfig(const nlohmann::json& config, const std::string& where);

// The keys that are neither read nor known to change nothing, for a word of warning: files hold
// many that are somebody's own.
std::vector<std::string> UnknownHfKeys(const nlohmann::json& config);

}  // namespace shoal::model
