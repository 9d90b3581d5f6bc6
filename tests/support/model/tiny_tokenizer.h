#pragma once

// A byte-level BPE tokenizer for generated models.

#include <cstdint>

#include "tests/support/model/model_files.h"

namespace shoal::test {

// Adds the "tokenizer." metadata: the 256 bytes, then runs of two to four small letters with their
// merges, then the special tokens <|endoftext|>, <|im_start|> (BOS, not added) and <|im_end|>
// (EOS); and a chat template that wraps each message in the last two. vocab_size: 259 to 475487.
void AddTinyTokenizer(int64_t vocab_size, GgufFile& file);

}  // namespace shoal::test
