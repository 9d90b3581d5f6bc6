#pragma once

// Text to token ids and back, for byte-level BPE vocabularies.
//
// Source: the GGUF metadata keys tokenizer.ggml.* (pre "smollm", "llama-bpe", "qwen2", ...) or the
// Hugging Face tokenizer.json format. The pre-tokenizer is the model's own expression, run by PCRE2.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/model/model.h"

namespace shoal::text {

enum class SpecialTokens : uint8_t {
  kRecognized,  // Text such as <|im_end|> becomes its special token.
  kPlainText,   // It is text like any other. Added tokens that are not special are still recognised.
};

// Immutable, thread-safe.
class Tokenizer {
 public:
  // Errors: kInvalidArgument, naming the key, for a tokenizer this class cannot reproduce exactly.
  static std::unique_ptr<Tokenizer> Make(const model::Model& model);

  virtual ~Tokenizer() = default;

  // Result: the ids of `text`, without BOS. Any bytes are accepted; ill-formed UTF-8 is encoded byte by byte.
  // Cost: O(n log n) in the longest piece; merges use a heap, never a rescan.
  virtual std::vector<int32_t> Encode(std::string_view text, SpecialTokens special) const = 0;

  // The BOS id, if this model's rule is to put one before a prompt.
  virtual std::optional<int32_t> bos_to_add() const = 0;

  // The bytes of one token; empty for an id outside the vocabulary (padding rows). Special tokens
  // give their text, or nothing if `skip_special`.
  virtual std::string TokenBytes(int32_t id, bool skip_special) const = 0;

  virtual bool IsSpecial(int32_t id) const = 0;

  // Concatenated bytes; ill-formed UTF-8 becomes U+FFFD as Python's errors="replace" does.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  virtual int32_t vocab_size() const = 0;
};

// Turns tokens into text as they arrive, holding back bytes until they are whole UTF-8 characters.
// The joined results equal Tokenizer::Decode of all tokens.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The text that became whole with this token; may be empty.
  std::string Push(int32_t id);
  // What is left, with ill-formed bytes replaced.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_;
  std::string pending_;
};

}  // namespace shoal::text
