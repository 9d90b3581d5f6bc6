#pragma once

// The parts of tokenizer.json that a text passes on its way to ids and back.

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// The tokens around a text that is a prompt.
struct TextFrame {
  std::optional<int32_t> before;
  std::optional<int32_t> after;
};

// Errors of all: kInvalidArgument, naming the part that would change ids or texts in a way that is
// not known here.

void ReadJsonNormalizer(const nlohmann::json& normalizer, TokenizerSpec& spec);
// Result: whether ByteLevel is among its parts.
bool ReadJsonPreTokenizer(const nlohmann::json& part, TokenizerSpec& spec);
// Nothing if it does not decide about these tokens.
std::optional<TextFrame> ReadJsonPostProcessor(const nlohmann::json& processor,
                                               bool nested = false);

// Of byte-level vocabularies, whose tokens write their own bytes.
void ReadJsonByteLevelDecoder(const nlohmann::json& decoder);
// Of those that are written in characters: that of the whole file.
void ReadJsonCharacterDecoder(const nlohmann::json& tokenizer, TokenizerSpec& spec);

}  // namespace shoal::text
