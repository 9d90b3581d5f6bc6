#pragma once

// A tokenizer's definition, read from a model's metadata and checked; both formats end here.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

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

// Two tokens that become one. Earlier merges win.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
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

// Splits a piece at the matches of an expression.
struct SplitRule {
  std::string pattern;  // As the model's files write it (Oniguruma).
  bool keep_matches = true;
  bool keep_gaps = true;
};

struct TokenizerSpec {
  std::vector<VocabToken> tokens;  // By id. Ids that the files skip are empty.
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  std::vector<SplitRule> splits;  // Each splits what the one before left.
  bool nfc = false;               // Text is put into normalization form C first.
  bool ignore_merges = false;     // A piece that is a token as a whole is not merged.
  std::optional<int32_t> bos_to_add;
  std::string bos_text;
  std::string eos_text;
};

// Errors of all: kInvalidArgument, naming the key and what it holds.
TokenizerSpec SpecOf(const nlohmann::json& metadata, model::TokenizerSource source);
TokenizerSpec SpecFromGguf(const nlohmann::json& metadata);
TokenizerSpec SpecFromTokenizerJson(const nlohmann::json& metadata);

// The expressions that both formats name rather than spell out.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr const char* kDigitPattern = R"(\p{N})";

}  // namespace shoal::text
