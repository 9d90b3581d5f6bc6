#pragma once

// Text to token ids and back, for byte-level BPE and SentencePiece's BPE with bytes to fall back
// on.
//
// Source: the GGUF metadata keys tokenizer.ggml.* (model "gpt2" with pre "smollm", "llama-bpe",
// "qwen2", ...; models "llama" and "bert") or the Hugging Face tokenizer.json format. The
// pre-tokenizer is the model's own expression, run by PCRE2.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::model {
class Model;
enum class TokenizerSource : uint8_t;
}  // namespace shoal::model

namespace shoal::text {

enum class SpecialTokens : uint8_t {
  kRecognized,  // Text such as <|im_end|> becomes its special token.
  kPlainText,  // It is text like any other. Added tokens that are not special are still recognised.
};

// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;

  bool operator==(const ByteRange&) const = default;
};

// The first of `ranges` (ordered, disjoint) that ends after `at`. Cost: O(log n): a text in many
// segments may ask for each of them.
inline std::span<const ByteRange>::iterator FirstEndingAfter(std::span<const ByteRange> ranges,
                                                             size_t at) {
  return std::partition_point(ranges.begin(), ranges.end(),
                              [at](const ByteRange& range) { return range.end <= at; });
}

// Where the text of decoded tokens stands. SentencePiece's models put a space in front of a text,
// which decoding takes away again; tokens that go on a text, as an answer does, keep theirs.
enum class TextStart : uint8_t { kBefore, kHere };

// Immutable, thread-safe.
class Tokenizer {
 public:
  // Errors: kInvalidArgument, naming the key, for a tokenizer this class cannot reproduce exactly.
  static std::unique_ptr<Tokenizer> Make(const model::Model& model);
  // The same from Model::metadata() alone; see there for its layout.
  static std::unique_ptr<Tokenizer> FromMetadata(const nlohmann::json& metadata,
                                                 model::TokenizerSource source);

  virtual ~Tokenizer() = default;

  // Result: the ids of `text`, without BOS. Any bytes are accepted; ill-formed UTF-8 is encoded
  // byte by byte; a byte that the vocabulary lacks is dropped. Errors: kInvalidArgument for a text
  // of 1 GiB or more, or when the expression hits its match limit. Cost: O(n log n) in the longest
  // piece, and nearly the same for each byte of any text: nothing is allocated for a piece.
  std::vector<int32_t> Encode(std::string_view text, SpecialTokens special) const;

  // As Encode, but special tokens are recognised only where no byte of them lies in `plain`
  // (ordered, disjoint). Between special tokens the text is pre-tokenized as one, across the
  // borders of `plain`.
  virtual std::vector<int32_t> EncodeMarked(std::string_view text,
                                            std::span<const ByteRange> plain) const = 0;

  // The BOS id, if this model's rule is to put one before a prompt.
  virtual std::optional<int32_t> bos_to_add() const = 0;

  // The id after a text, if this model's rule is to put one there: of models that embed texts.
  virtual std::optional<int32_t> eos_to_add() const { return std::nullopt; }

  // The texts of the model's BOS and EOS tokens, which chat templates ask for; empty if it has
  // none.
  virtual const std::string& bos_text() const = 0;
  virtual const std::string& eos_text() const = 0;

  // The bytes of one token; empty for an id outside the vocabulary (padding rows). Special tokens
  // give their text, or nothing if `skip_special`.
  virtual std::string TokenBytes(int32_t id, bool skip_special) const = 0;

  virtual bool IsSpecial(int32_t id) const = 0;

  // Whether a text that starts with these tokens begins without the space that they begin with.
  virtual bool drops_first_space() const { return false; }

  // Concatenated bytes; ill-formed UTF-8 becomes U+FFFD as Python's errors="replace" does.
  std::string Decode(std::span<const int32_t> ids, bool skip_special,
                     TextStart start = TextStart::kBefore) const;

  // One more than the largest id.
  virtual int32_t vocab_size() const = 0;
};

// Turns tokens into text as they arrive, holding back bytes until they are whole UTF-8 characters.
// The joined results equal Tokenizer::Decode of all tokens. Thread-compatible.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special, TextStart start = TextStart::kBefore)
      : tokenizer_(tokenizer),
        skip_special_(skip_special),
        drops_space_(start == TextStart::kHere && tokenizer.drops_first_space()) {}

  // The text that became whole with this token; may be empty.
  std::string Push(int32_t id);
  // What is left, with ill-formed bytes replaced.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_;
  bool drops_space_;  // Until the first byte.
  std::string pending_;
};

}  // namespace shoal::text
