#include "parallel/text/grammar/token_trie.h"

#include <algorithm>
#include <optional>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/utf8.h"

namespace shoal::text::grammar {
namespace {

constexpr size_t kTokenBytesMax = size_t{1} << 15;

size_t CommonPrefix(const std::string& a, const std::string& b) {
  const size_t length = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(length), b.begin()).first -
      a.begin());
}

// How many plain characters `bytes` is, if it is nothing else.
std::optional<size_t> PlainCharacters(std::string_view bytes) {
  size_t count = 0;
  for (; !bytes.empty(); ++count) {
    const Utf8Step step = DecodeUtf8(bytes);
    const char32_t c = step.code_point;
    if (step.kind != Utf8Step::Kind::kCharacter || c < 0x20 || c == '"' || c == '\\') {
      return std::nullopt;
    }
    bytes.remove_prefix(step.length);
  }
  return count;
}

}  // namespace

TokenTrie::TokenTrie(std::vector<std::pair<std::string, int32_t>> tokens) {
  std::erase_if(tokens, [](const auto& token) { return token.first.size() > kTokenBytesMax; });
  std::sort(tokens.begin(), tokens.end());
  std::vector<uint32_t> path;  // The nodes of the last token's bytes.
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    }
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& bytes = tokens[i].first;
    const size_t common = i == 0 ? 0 : CommonPrefix(tokens[i - 1].first, bytes);
    close(common);
    for (size_t depth = common; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.tokens_begin = static_cast<uint32_t>(tokens_.size()),
                        .tokens_end = static_cast<uint32_t>(tokens_.size()),
                        .depth = static_cast<uint16_t>(depth),
                        .byte = static_cast<uint8_t>(bytes[depth])});
    }
    tokens_.push_back(tokens[i].second);
    // Equal texts follow each other, so a node's tokens lie together.
    nodes_[path.back()].tokens_end = static_cast<uint32_t>(tokens_.size());
    depth_max_ = std::max(depth_max_, bytes.size());
  }
  close(0);
}

GrammarVocabulary::GrammarVocabulary(std::vector<std::string> tokens, std::vector<int32_t> end_ids)
    : bytes_(std::move(tokens)),
      end_ids_(std::move(end_ids)),
      plain_mask_((bytes_.size() + 63) / 64) {
  std::vector<std::pair<std::string, int32_t>> plain;
  std::vector<std::pair<std::string, int32_t>> others;
  for (int32_t token = 0; token < size(); ++token) {
    std::string& bytes = bytes_[static_cast<size_t>(token)];
    if (IsEnd(token)) bytes.clear();
    if (bytes.empty()) continue;
    if (bytes.size() == 1) single_bytes_.Add(static_cast<uint8_t>(bytes[0]));
  }
  for (int32_t token = 0; token < size(); ++token) {
    const std::string& bytes = bytes_[static_cast<size_t>(token)];
    if (bytes.empty()) continue;
    const bool spellable = std::all_of(bytes.begin(), bytes.end(), [&](char byte) {
      return single_bytes_.Has(static_cast<uint8_t>(byte));
    });
    const std::optional<size_t> characters = spellable ? PlainCharacters(bytes) : std::nullopt;
    (characters ? plain : others).emplace_back(bytes, token);
    if (!characters) continue;
    if (plain_tokens_.size() <= *characters) plain_tokens_.resize(*characters + 1);
    plain_tokens_[*characters].push_back(token);
    plain_mask_[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  }
  plain_trie_ = TokenTrie(std::move(plain));
  other_trie_ = TokenTrie(std::move(others));
}

// From the tokenizer's definition alone: making one that can encode would cost a hundred times
// more.
std::shared_ptr<const GrammarVocabulary> GrammarVocabulary::Make(const model::Model& model) {
  const TokenizerSpec spec = SpecOf(model.metadata(), model.tokenizer_source());
  std::vector<std::string> tokens(static_cast<size_t>(model.config().vocab_size));
  for (size_t token = 0; token < std::min(tokens.size(), spec.tokens.size()); ++token) {
    if (!spec.tokens[token].special) tokens[token] = spec.tokens[token].bytes;
  }
  return std::make_shared<const GrammarVocabulary>(std::move(tokens), model.config().eos_ids);
}

bool GrammarVocabulary::IsEnd(int32_t token) const {
  return std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end();
}

ByteSet SingleBytes(const Tokenizer& tokenizer, int32_t vocab_size) {
  ByteSet bytes;
  for (int32_t token = 0; token < std::min(vocab_size, tokenizer.vocab_size()); ++token) {
    const std::string text = tokenizer.TokenBytes(token, true);
    if (text.size() == 1) bytes.Add(static_cast<uint8_t>(text[0]));
  }
  return bytes;
}

}  // namespace shoal::text::grammar
