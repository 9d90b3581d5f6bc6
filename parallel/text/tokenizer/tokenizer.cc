// The BPE tokenizer: added tokens are cut out, the rest is pre-tokenized and merged.

#include "parallel/text/tokenizer/tokenizer.h"

#include <nlohmann/json.hpp>

#include "parallel/model/model.h"
#include "parallel/text/nfc.h"
#include "parallel/text/tokenizer/added_tokens.h"
#include "parallel/text/tokenizer/bpe.h"
#include "parallel/text/tokenizer/normalizer.h"
#include "parallel/text/tokenizer/pretokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/tokenizer/word_piece/word_piece_tokenizer.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

// Positions inside a piece are 32 bits wide.
constexpr size_t kTextBytesMax = (size_t{1} << 30) - 1;

class BpeTokenizer : public SpecTokenizer {
 public:
  explicit BpeTokenizer(TokenizerSpec spec)
      : SpecTokenizer(std::move(spec)),
        raw_finder_(spec_.added_tokens, false),
        normalized_finder_(Normalized(spec_), true),
        pre_tokenizer_(spec_.splits),
        bpe_(spec_) {}

  std::vector<int32_t> EncodeMarked(std::string_view text,
                                    std::span<const ByteRange> plain) const override {
    if (text.size() > kTextBytesMax) {
      Throw(ErrorCode::kInvalidArgument, "text of ", text.size(), " bytes: at most ", kTextBytesMax,
            " can be tokenized; send a shorter one");
    }
    Run run;
    raw_finder_.Find(text, {0, text.size()}, plain, [&](const AddedTokenFinder::Segment& segment) {
      if (segment.id >= 0) {
        run.ids.push_back(segment.id);
        return;
      }
      const bool first = segment.range.begin == 0;
      if (!spec_.nfc && !MarksSpaces(true)) {
        EncodeNormalized(text, segment.range, plain, first, run);
        return;
      }
      NormalizedText normalized;
      if (spec_.nfc) normalized = NormalizeNfc(text, segment.range, plain);
      if (MarksSpaces(true)) {
        normalized = spec_.nfc
                         ? MarkSpaces(normalized.text, {0, normalized.text.size()},
                                      normalized.plain, spec_.metaspace->prefix, first)
                         : MarkSpaces(text, segment.range, plain, spec_.metaspace->prefix, first);
      }
      EncodeNormalized(normalized.text, {0, normalized.text.size()}, normalized.plain, first, run);
    });
    return std::move(run.ids);
  }

 private:
  // What one text becomes, and the memory that it takes.
  struct Run {
    std::vector<int32_t> ids;
    PreTokenizer::Scratch split;
    Bpe::Scratch merge;
  };

  // Added tokens that are looked for in normalized text are normalized themselves.
  static std::vector<AddedToken> Normalized(const TokenizerSpec& spec) {
    std::vector<AddedToken> tokens = spec.added_tokens;
    for (AddedToken& token : tokens) {
      if (!token.normalized) continue;
      if (spec.nfc) token.text = NormalizeNfc(token.text, {0, token.text.size()}, {}).text;
      if (spec.metaspace && spec.metaspace->before_added_tokens) {
        token.text =
            MarkSpaces(token.text, {0, token.text.size()}, {}, spec.metaspace->prefix, true).text;
      }
    }
    return tokens;
  }

  bool MarksSpaces(bool before_added_tokens) const {
    return spec_.metaspace && spec_.metaspace->before_added_tokens == before_added_tokens;
  }

  // Appends the ids of text[range]; `first`: it begins the whole text.
  void EncodeNormalized(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                        bool first, Run& run) const {
    normalized_finder_.Find(text, range, plain, [&](const AddedTokenFinder::Segment& segment) {
      if (segment.id >= 0) {
        run.ids.push_back(segment.id);
        return;
      }
      std::string marked;
      if (MarksSpaces(false)) {
        const bool begins = first && segment.range.begin == range.begin;
        marked = MarkSpaces(text, segment.range, {}, spec_.metaspace->prefix, begins).text;
      }
      pre_tokenizer_.Split(
          MarksSpaces(false)
              ? std::string_view(marked)
              : text.substr(segment.range.begin, segment.range.end - segment.range.begin),
          run.split, [&](std::string_view piece) { bpe_.Encode(piece, run.merge, run.ids); });
    });
  }

  const AddedTokenFinder raw_finder_;
  const AddedTokenFinder normalized_finder_;
  const PreTokenizer pre_tokenizer_;
  const Bpe bpe_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::Make(const model::Model& model) {
  return FromMetadata(model.metadata(), model.tokenizer_source());
}

std::unique_ptr<Tokenizer> Tokenizer::FromMetadata(const nlohmann::json& metadata,
                                                   model::TokenizerSource source) {
  TokenizerSpec spec = SpecOf(metadata, source);
  if (spec.word_pieces) return MakeWordPieceTokenizer(std::move(spec));
  return std::make_unique<BpeTokenizer>(std::move(spec));
}

TokenizerSpec SpecOf(const nlohmann::json& metadata, model::TokenizerSource source) {
  switch (source) {
    case model::TokenizerSource::kGgufMetadata:
      return SpecFromGguf(metadata);
    case model::TokenizerSource::kTokenizerJson:
      return SpecFromTokenizerJson(metadata);
    case model::TokenizerSource::kNone:
      break;
  }
  Throw(ErrorCode::kInvalidArgument,
        "the model brings no tokenizer: expected tokenizer.json beside ",
        "config.json, or tokenizer.ggml.* keys in the GGUF file");
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, SpecialTokens special) const {
  if (special == SpecialTokens::kRecognized) return EncodeMarked(text, {});
  const ByteRange all{0, text.size()};
  return EncodeMarked(text, {&all, 1});
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special,
                              TextStart start) const {
  StreamDecoder decoder(*this, skip_special, start);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

std::string StreamDecoder::Push(int32_t id) {
  const std::string bytes = tokenizer_.TokenBytes(id, skip_special_);
  const bool drops = drops_space_ && bytes.starts_with(' ');
  drops_space_ &= bytes.empty();
  pending_ += std::string_view(bytes).substr(drops ? 1 : 0);
  std::string whole;
  pending_.erase(0, AppendRepaired(pending_, whole));
  return whole;
}

std::string StreamDecoder::Finish() {
  // The pending bytes begin a character that never ends: one replacement.
  const bool cut_off = !pending_.empty();
  pending_.clear();
  return cut_off ? "\xEF\xBF\xBD" : "";
}

}  // namespace shoal::text
