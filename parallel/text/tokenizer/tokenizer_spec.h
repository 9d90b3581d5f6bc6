#pragma once

// A tokenizer's definition, read from a model's metadata and checked; both formats end here.

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "parallel/text/tokenizer/tokenizer.h"

namespace shoal::model {
enum class TokenizerSource : uint8_t;
}  // namespace shoal::model

namespace shoal::text {

// A limit against absurd ids in damaged files; the largest published vocabularies have 2^18 tokens.
inline constexpr int64_t kVocabSizeMax = int64_t{1} << 22;

struct VocabToken {
  std::string bytes;       // What it decodes to.
  bool mergeable = false;  // Part of the BPE vocabulary: its bytes may be the result of merges.
  bool special = false;
};

// Two tokens that become one. The lowest rank wins; of one rank the leftmost pair.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
  int32_t rank = 0;
};

// What a piece is before merges, where the vocabulary is written in characters (SentencePiece's)
// and not in bytes: its characters, and the bytes of those that have no token.
struct CharacterVocabulary {
  std::unordered_map<char32_t, int32_t> ids;
  std::array<int32_t, 256> byte_ids = NoIds();  // <0x00> and on; -1: no token.
  // What stands for a character that lacks a token for itself and for one of its bytes; none: it is
  // dropped.
  std::optional<int32_t> unknown;
  bool fuse_unknown = false;  // One for a run of them.

  static constexpr std::array<int32_t, 256> NoIds() {
    std::array<int32_t, 256> ids;
    ids.fill(-1);
    return ids;
  }
};

// A token that is cut out of the text before pre-tokenization.
struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;
  bool strip_left = false;   // Takes the white space before it along.
  bool strip_right = false;  // And after it.
  bool normalized = false;   // Looked for after normalization, in what the others left.
};

// What becomes of the matches of an expression, and of the text between them.
enum class SplitBehavior : uint8_t {
  kIsolated,            // A piece each.
  kRemoved,             // The matches are dropped.
  kMergedWithPrevious,  // A match ends the text before it, unless that is a match too.
  kMergedWithNext,      // It begins the text after it.
  kContiguous,          // Matches that follow each other are one piece.
};

struct SplitRule {
  std::string pattern;  // As the model's files write it (Oniguruma).
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // What lies between the matches counts as the match.
};

// Where a U+2581 is put in front of a text between added tokens.
enum class SpacePrefix : uint8_t {
  kNone,
  kAlways,
  kWhereMissing,       // Unless it begins with one.
  kFirstWhereMissing,  // The same, and only at the very start.
};

// SentencePiece's way with spaces: they are written U+2581, so that tokens can hold them.
struct Metaspace {
  SpacePrefix prefix = SpacePrefix::kNone;
  // Before the added tokens that are `normalized` are looked for, as a normalizer does it; else
  // after, as a pre-tokenizer.
  bool before_added_tokens = true;
};

// BERT's way of making words comparable.
struct BertNormalization {
  bool clean = true;         // Control characters go, any white space is a space.
  bool separate_cjk = true;  // Each Chinese character is a word.
  bool strip_accents = true;
  bool lowercase = true;
};

// WordPiece: words are the longest pieces of a vocabulary, from the left; one that cannot be made
// of them, or is too long, is unknown as a whole.
struct WordPieceVocabulary {
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Pieces = std::unordered_map<std::string, int32_t, Hash, std::equal_to<>>;

  Pieces starts;         // Pieces that begin a word.
  Pieces continuations;  // Pieces that go on, without the mark that files write before them.
  int32_t unknown = 0;
  int64_t word_characters_max = 100;
  BertNormalization normalization;
};

struct TokenizerSpec {
  std::vector<VocabToken> tokens;  // By id. Ids that the files skip are empty.
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  std::vector<SplitRule> splits;                   // Each splits what the one before left.
  bool nfc = false;                                // Text is put into normalization form C first.
  std::optional<Metaspace> metaspace;              // Then spaces are written U+2581.
  std::optional<CharacterVocabulary> characters;   // None: the vocabulary is written in bytes.
  std::optional<WordPieceVocabulary> word_pieces;  // Then there are no merges.
  bool ignore_merges = false;     // A piece that is a token as a whole is not merged.
  bool drop_first_space = false;  // A text from these tokens begins without the space.
  std::optional<int32_t> bos_to_add;
  std::optional<int32_t> eos_to_add;  // After the text; of WordPiece only.
  std::string bos_text;
  std::string eos_text;
};

// Errors of all: kInvalidArgument, naming the key and what it holds.
TokenizerSpec SpecOf(const nlohmann::json& metadata, model::TokenizerSource source);
TokenizerSpec SpecFromGguf(const nlohmann::json& metadata);
TokenizerSpec SpecFromByteLevelGguf(const nlohmann::json& metadata);
TokenizerSpec SpecFromSentencePieceGguf(const nlohmann::json& metadata);
TokenizerSpec SpecFromWordPieceGguf(const nlohmann::json& metadata);
TokenizerSpec SpecFromTokenizerJson(const nlohmann::json& metadata);

// The byte of a token such as <0x0A>; none for any other text.
std::optional<uint8_t> ByteOfToken(std::string_view text);

// SentencePiece's mark for a space, U+2581, and a text with spaces in its place.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
std::string WithSpaces(std::string_view text);

// The expressions that both formats name rather than spell out.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr const char* kDigitPattern = R"(\p{N})";

// What tokenizers of all kinds say of their tokens, whatever cuts texts into them.
class SpecTokenizer : public Tokenizer {
 public:
  explicit SpecTokenizer(TokenizerSpec spec) : spec_(std::move(spec)) {}

  std::optional<int32_t> bos_to_add() const override { return spec_.bos_to_add; }
  std::optional<int32_t> eos_to_add() const override { return spec_.eos_to_add; }
  const std::string& bos_text() const override { return spec_.bos_text; }
  const std::string& eos_text() const override { return spec_.eos_text; }
  bool drops_first_space() const override { return spec_.drop_first_space; }

  std::string TokenBytes(int32_t id, bool skip_special) const override {
    if (id < 0 || id >= vocab_size() || (skip_special && spec_.tokens[id].special)) return "";
    return spec_.tokens[id].bytes;
  }

  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && spec_.tokens[id].special;
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(spec_.tokens.size()); }

 protected:
  const TokenizerSpec spec_;
};

}  // namespace shoal::text
