#pragma once

// What all tokenizers in GGUF metadata have in common.
//
// Source: the keys tokenizer.ggml.* of the GGUF specification, and what llama.cpp's converter
// writes under them.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "parallel/model/config/idle_keys.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// The kinds of tokenizer.ggml.token_type.
enum class GgufTokenType : int { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

inline constexpr std::string_view kPromptAsItIs = "a prompt is its text, after a BOS at most";

// Errors of all: kInvalidArgument, naming the key, what it holds and what was expected.

// Null if there is no such key.
const nlohmann::json* GgufFind(const nlohmann::json& metadata, const char* key);
const nlohmann::json& GgufArray(const nlohmann::json& metadata, const char* key);
const std::string& GgufString(const nlohmann::json& value, const char* key);
bool GgufBool(const nlohmann::json& metadata, const char* key, bool otherwise);
// The id under a key, which must be below the number of tokens.
std::optional<int32_t> GgufTokenId(const nlohmann::json& metadata, const char* key,
                                   size_t token_count);

// tokenizer.ggml.tokens, as many as there are types.
const nlohmann::json& GgufTokens(const nlohmann::json& metadata);
GgufTokenType GgufTypeOfToken(const nlohmann::json& metadata, size_t id);

// Refuses a key of the tokenizer that is neither read nor idle nor the id of a special token: it
// may ask for other ids.
void CheckGgufKeys(const nlohmann::json& metadata, std::span<const std::string_view> read,
                   std::span<const model::IdleKey> idle);

// bos_text, eos_text and bos_to_add of a spec whose tokens are read. `add_bos`: where the file does
// not say.
void ReadGgufBosAndEos(const nlohmann::json& metadata, bool add_bos, TokenizerSpec& spec);

}  // namespace shoal::text
