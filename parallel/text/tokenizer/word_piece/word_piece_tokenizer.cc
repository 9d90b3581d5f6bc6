// Added tokens are cut out; the rest is normalized, cut into words, and those into pieces.

#include "parallel/text/tokenizer/word_piece/word_piece_tokenizer.h"

#include <algorithm>

#include "parallel/text/tokenizer/added_tokens.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/tokenizer/word_piece/bert_text.h"
#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

size_t LongestOf(const WordPieceVocabulary::Pieces& pieces) {
  size_t longest = 0;
  for (const auto& [text, id] : pieces) longest = std::max(longest, text.size());
  return longest;
}

class WordPieceTokenizer : public SpecTokenizer {
 public:
  explicit WordPieceTokenizer(TokenizerSpec spec)
      : SpecTokenizer(std::move(spec)),
        pieces_(*spec_.word_pieces),
        longest_(std::max(LongestOf(pieces_.starts), LongestOf(pieces_.continuations))),
        raw_finder_(spec_.added_tokens, false),
        normalized_finder_(Normalized(spec_), true) {}

  std::vector<int32_t> EncodeMarked(std::string_view text,
                                    std::span<const ByteRange> plain) const override {
    std::vector<int32_t> ids;
    const auto encode_words = [&](std::string_view words) {
      SplitBertWords(words, [&](std::string_view word) { EncodeWord(word, ids); });
    };
    raw_finder_.Find(text, {0, text.size()}, plain, [&](const AddedTokenFinder::Segment& segment) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        return;
      }
      const NormalizedText normal =
          NormalizeBert(text, segment.range, plain, pieces_.normalization);
      normalized_finder_.Find(
          normal.text, {0, normal.text.size()}, normal.plain,
          [&](const AddedTokenFinder::Segment& part) {
            if (part.id >= 0) {
              ids.push_back(part.id);
            } else {
              encode_words(std::string_view(normal.text)
                               .substr(part.range.begin, part.range.end - part.range.begin));
            }
          });
    });
    return ids;
  }

 private:
  static std::vector<AddedToken> Normalized(const TokenizerSpec& spec) {
    std::vector<AddedToken> tokens = spec.added_tokens;
    for (AddedToken& token : tokens) {
      if (!token.normalized) continue;
      token.text =
          NormalizeBert(token.text, {0, token.text.size()}, {}, spec.word_pieces->normalization)
              .text;
    }
    std::erase_if(tokens, [](const AddedToken& token) { return token.text.empty(); });
    return tokens;
  }

  void EncodeWord(std::string_view word, std::vector<int32_t>& ids) const {
    const size_t before = ids.size();
    const auto characters =
        std::count_if(word.begin(), word.end(), [](char byte) { return (byte & 0xC0) != 0x80; });
    bool known = characters <= pieces_.word_characters_max;
    for (size_t at = 0; known && at < word.size();) {
      const auto& pieces = at == 0 ? pieces_.starts : pieces_.continuations;
      size_t length = std::min(longest_, word.size() - at);
      auto found = pieces.end();
      for (; length > 0; --length) {
        found = pieces.find(word.substr(at, length));
        if (found != pieces.end()) break;
      }
      known = length > 0;
      if (known) ids.push_back(found->second);
      at += length;
    }
    if (known) return;
    ids.resize(before);
    ids.push_back(pieces_.unknown);
  }

  const WordPieceVocabulary& pieces_;
  const size_t longest_;  // Bytes of a piece.
  const AddedTokenFinder raw_finder_;
  const AddedTokenFinder normalized_finder_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeWordPieceTokenizer(TokenizerSpec spec) {
  return std::make_unique<WordPieceTokenizer>(std::move(spec));
}

}  // namespace shoal::text
