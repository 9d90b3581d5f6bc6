#pragma once

// The tokenizer of BERT's models: words, and pieces of words.
//
// Source: the WordPiece model of Hugging Face's tokenizers; "bert" among GGUF's tokenizer models.

#include <memory>

#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// `spec` has word_pieces. Decoded text has the words' spaces back, but not what normalization took.
std::unique_ptr<Tokenizer> MakeWordPieceTokenizer(TokenizerSpec spec);

}  // namespace shoal::text
