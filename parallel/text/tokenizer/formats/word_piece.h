#pragma once

// What both containers' WordPiece vocabularies become.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// A piece of spec.word_pieces, and what token `id` writes: `text`, after a space where it begins a
// word, unless it is a mark that `clean_up` puts close to the word before it.
void AddWordPiece(const std::string& text, bool begins, bool clean_up, int32_t id,
                  TokenizerSpec& spec);

// The model and what a text passes, of a tokenizer.json whose model.type is WordPiece; no added
// tokens. Errors: kInvalidArgument, naming the part that is not known.
void ReadJsonWordPiece(const nlohmann::json& tokenizer, TokenizerSpec& spec);

}  // namespace shoal::text
