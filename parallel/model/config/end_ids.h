#pragma once

// Which tokens end an answer.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace shoal::model {

// Our own key of a GGUF file: end ids that have no key of their own.
constexpr const char* kGgufEndIdsKey = "shoal.end_token_ids";

// The union, each id once, in this order, of what `metadata` (as Model::metadata() has it) holds in
//   config.json and generation_config.json: eos_token_id, one or a list
//   GGUF: tokenizer.ggml.eos_token_id, eot_token_id, eom_token_id, shoal.end_token_ids
//   tokenizer_config.json: eos_token, a text or an object with its "content"
//   the vocabulary: control tokens (token_type 3, "special": true) of the texts below
// because files name one of the tokens that end documents and turns and leave out the others.
// Those of the texts are left out where no answer can have them, from `vocab_size` on. Errors:
// kInvalidArgument for a value that is no token id; whether ids lie in the vocabulary is
// CheckConfig's to see.
std::vector<int32_t> ReadEndIds(const nlohmann::json& metadata, int64_t vocab_size,
                                const std::string& where);

}  // namespace shoal::model
