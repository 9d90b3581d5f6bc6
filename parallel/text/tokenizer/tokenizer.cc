// The byte-level BPE tokenizer: added tokens are cut out, the rest is pre-tokenized and merged.

#include "parallel/text/tokenizer/tokenizer.h"

#include <nlohmann/json.hpp>

#include "parallel/model/model.h"
#include "parallel/text/nfc.h"
#include "parallel/text/tokenizer/added_tokens.h"
#include "parallel/text/tokenizer/bpe.h"
#include "parallel/text/tokenizer/pretokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

// Positions inside a piece are 32 bits wide.
constexpr size_t kTextBytesMax = (size_t{1} << 30) - 1;

class ByteLevelTokenizer : public Tokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerSpec spec)
      : spec_(std::move(spec)),
        raw_finder_(spec_.added_tokens, false),
        normalized_finder_(spec_.added_tokens, true),
        pre_tokenizer_(spec_.splits),
        bpe_(spec_) {}

  std::vector<int32_t> EncodeMarked(std::string_view text,
                                    std::span<const ByteRange> plain) const override {
    if (text.size() > kTextBytesMax) {
      Throw(ErrorCode::kInvalidArgument, "text of ", text.size(), " bytes: at most ", kTextBytesMax,
            " can be tokenized; send a shorter one");
    }
    std::vector<int32_t> ids;
    PreTokenizer::Scratch split_scratch;
    Bpe::Scratch merge_scratch;
    const auto emit_normalized = [&](std::string_view run, ByteRange range,
                                     std::span<const ByteRange> marked) {
      normalized_finder_.Find(run, range, marked, [&](const AddedTokenFinder::Segment& segment) {
        if (segment.id >= 0) {
          ids.push_back(segment.id);
          return;
        }
        pre_tokenizer_.Split(
            run.substr(segment.range.begin, segment.range.end - segment.range.begin), split_scratch,
            [&](std::string_view piece) { bpe_.Encode(piece, merge_scratch, ids); });
      });
    };
    raw_finder_.Find(text, {0, text.size()}, plain, [&](const AddedTokenFinder::Segment& segment) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else if (spec_.nfc) {
        const NormalizedText normalized = NormalizeNfc(text, segment.range, plain);
        emit_normalized(normalized.text, {0, normalized.text.size()}, normalized.plain);
      } else {
        emit_normalized(text, segment.range, plain);
      }
    });
    return ids;
  }

  std::optional<int32_t> bos_to_add() const override { return spec_.bos_to_add; }
  const std::string& bos_text() const override { return spec_.bos_text; }
  const std::string& eos_text() const override { return spec_.eos_text; }

  std::string TokenBytes(int32_t id, bool skip_special) const override {
    if (id < 0 || id >= vocab_size() || (skip_special && spec_.tokens[id].special)) return "";
    return spec_.tokens[id].bytes;
  }

  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && spec_.tokens[id].special;
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(spec_.tokens.size()); }

 private:
  const TokenizerSpec spec_;
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
  return std::make_unique<ByteLevelTokenizer>(SpecOf(metadata, source));
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

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

std::string StreamDecoder::Push(int32_t id) {
  pending_ += tokenizer_.TokenBytes(id, skip_special_);
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
