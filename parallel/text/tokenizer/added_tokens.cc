// A byte tree walked from each position that some token can start at.

#include "parallel/text/tokenizer/added_tokens.h"

#include <algorithm>

#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

bool IsWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t SkipSpacesRight(std::string_view text, size_t at, size_t end) {
  while (at < end) {
    const Utf8Step step = DecodeUtf8(text.substr(at, end - at));
    if (step.kind != Utf8Step::Kind::kCharacter || !IsWhiteSpace(step.code_point)) break;
    at += step.length;
  }
  return at;
}

size_t SkipSpacesLeft(std::string_view text, size_t at, size_t begin) {
  while (at > begin) {
    size_t start = at - 1;
    while (start > begin && at - start < 4 && (text[start] & 0xC0) == 0x80) --start;
    const Utf8Step step = DecodeUtf8(text.substr(start, at - start));
    if (step.kind != Utf8Step::Kind::kCharacter || step.length != at - start ||
        !IsWhiteSpace(step.code_point)) {
      break;
    }
    at = start;
  }
  return at;
}

uint64_t EdgeKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized)
    : token_of_node_(1, -1) {
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized) continue;
    uint32_t node = 0;
    for (const char byte : token.text) {
      const auto [it, is_new] =
          edges_.try_emplace(EdgeKey(node, byte), static_cast<uint32_t>(token_of_node_.size()));
      if (is_new) token_of_node_.push_back(-1);
      node = it->second;
    }
    first_bytes_[static_cast<uint8_t>(token.text[0])] = true;
    token_of_node_[node] = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
  }
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, size_t at, size_t end,
                                              size_t plain_begin) const {
  const AddedToken* longest = nullptr;
  uint32_t node = 0;
  for (size_t i = at; i < end; ++i) {
    const auto edge = edges_.find(EdgeKey(node, text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    const int32_t index = token_of_node_[node];
    if (index < 0) continue;
    if (!tokens_[index].special || i < plain_begin) longest = &tokens_[index];
  }
  return longest;
}

void AddedTokenFinder::Find(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain,
                            const std::function<void(const Segment&)>& emit) const {
  size_t done = range.begin;
  auto next_plain = FirstEndingAfter(plain, range.begin);
  for (size_t at = range.begin; at < range.end && !tokens_.empty();) {
    if (!first_bytes_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    next_plain = std::find_if(next_plain, plain.end(),
                              [at](const ByteRange& marked) { return marked.end > at; });
    const size_t plain_begin = next_plain == plain.end() ? text.size() : next_plain->begin;
    const AddedToken* token = LongestAt(text, at, range.end, plain_begin);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->text.size();
    if (token->strip_left) begin = SkipSpacesLeft(text, begin, done);
    if (token->strip_right) end = SkipSpacesRight(text, end, range.end);
    if (begin > done) emit({{done, begin}, -1});
    emit({{begin, end}, token->id});
    done = at = end;
  }
  if (done < range.end) emit({{done, range.end}, -1});
}

}  // namespace shoal::text
