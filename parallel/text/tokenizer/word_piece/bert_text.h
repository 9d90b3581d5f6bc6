#pragma once

// BERT's normalization of a text and its words.
//
// Source: the BasicTokenizer of google-research/bert, as Hugging Face's BertNormalizer and
// BertPreTokenizer have it. The characters' properties are utf8proc's.

#include <functional>
#include <span>
#include <string_view>

#include "parallel/text/nfc.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// text[range], with `plain` (ordered, disjoint, in terms of `text`) carried along. Ill-formed bytes
// stay unless the text is cleaned. Cost: O(n log n).
NormalizedText NormalizeBert(std::string_view text, ByteRange range,
                             std::span<const ByteRange> plain, const BertNormalization& how);

// Calls `emit` with each word: what lies between white space, and each punctuation mark.
void SplitBertWords(std::string_view text, const std::function<void(std::string_view)>& emit);

}  // namespace shoal::text
