// Python's string operations on marked text.

#include "parallel/text/jinja/builtins/characters.h"

#include <algorithm>
#include <utility>

#include "parallel/text/utf8.h"

namespace shoal::text::jinja {
namespace {

// str.isspace: the white space of Unicode and the four ASCII separators.
bool IsSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Blocks that hold characters of two cases, roughly: a superset.
bool MayHaveCase(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> kBlocks[] = {
      {0xAA, 0x58F},      {0x10A0, 0x10FF},   {0x13A0, 0x13FF},   {0x1C80, 0x1CBF},
      {0x1D00, 0x1FFF},   {0x2071, 0x24FF},   {0x2C00, 0x2DFF},   {0xA640, 0xA7FF},
      {0xAB30, 0xABBF},   {0xFB00, 0xFB17},   {0xFF21, 0xFF5A},   {0x10400, 0x105FF},
      {0x10C80, 0x10CFF}, {0x118A0, 0x118DF}, {0x16E40, 0x16E7F}, {0x1D400, 0x1D7FF},
      {0x1DF00, 0x1E08F}, {0x1E900, 0x1E943}, {0x1F130, 0x1F189}};
  return std::any_of(std::begin(kBlocks), std::end(kBlocks),
                     [c](const auto& block) { return c >= block.first && c <= block.second; });
}

std::string_view CharacterAt(const Text& text, size_t at) {
  const std::string_view rest = std::string_view(text.bytes).substr(at);
  return rest.substr(0, DecodeUtf8(rest).length);
}

bool IsSpaceCharacter(std::string_view character) {
  const Utf8Step step = DecodeUtf8(character);
  return step.kind == Utf8Step::Kind::kCharacter && IsSpace(step.code_point);
}

size_t CountLimit(int64_t count) {
  return count < 0 ? std::string::npos : static_cast<size_t>(count);
}

}  // namespace

Text Strip(const Text& text, Side side, const std::string* characters) {
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes);
  size_t first = 0;
  size_t last = offsets.size() - 1;
  const auto strips = [&](size_t index) {
    const std::string_view character =
        std::string_view(text.bytes).substr(offsets[index], offsets[index + 1] - offsets[index]);
    if (characters == nullptr) return IsSpaceCharacter(character);
    return characters->find(character) != std::string::npos;
  };
  while (side != Side::kRight && first < last && strips(first)) ++first;
  while (side != Side::kLeft && last > first && strips(last - 1)) --last;
  return text.Slice(offsets[first], offsets[last]);
}

Text ChangeCase(const Evaluator& evaluator, const Text& text, Case to) {
  Text out = text;
  for (size_t at = 0; at < out.bytes.size();) {
    char& c = out.bytes[at];
    if (static_cast<unsigned char>(c) >= 0x80) {
      const Utf8Step step = DecodeUtf8(std::string_view(out.bytes).substr(at));
      if (step.kind == Utf8Step::Kind::kCharacter && MayHaveCase(step.code_point)) {
        evaluator.Fail("changing the case of characters outside ASCII is not supported");
      }
      at += step.length;
      continue;
    }
    if (to == Case::kUpper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (to == Case::kLower && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    ++at;
  }
  return out;
}

Text Capitalize(const Evaluator& evaluator, const Text& text) {
  if (text.bytes.empty()) return text;
  const size_t first = CharacterAt(text, 0).size();
  Text out = ChangeCase(evaluator, text.Slice(0, first), Case::kUpper);
  out.Append(ChangeCase(evaluator, text.Slice(first, text.bytes.size()), Case::kLower));
  return out;
}

Text Replace(Evaluator& evaluator, const Text& text, const Text& from, const Text& to,
             int64_t count) {
  if (from.bytes.empty()) evaluator.Fail("replacing the empty string is not supported");
  evaluator.ChargeBytes(text.bytes.size());
  Text out;
  size_t at = 0;
  for (size_t left = CountLimit(count); left > 0; --left) {
    const size_t found = text.bytes.find(from.bytes, at);
    if (found == std::string::npos) break;
    evaluator.ChargeBytes(to.bytes.size());
    out.Append(text.Slice(at, found));
    out.Append(to);
    at = found + from.bytes.size();
  }
  out.Append(text.Slice(at, text.bytes.size()));
  return out;
}

std::vector<Value> Split(Evaluator& evaluator, const Text& text, const std::string* separator,
                         int64_t count) {
  evaluator.ChargeBytes(text.bytes.size());
  std::vector<Value> parts;
  const size_t size = text.bytes.size();
  size_t left = CountLimit(count);
  size_t at = 0;
  if (separator != nullptr) {
    if (separator->empty()) evaluator.Fail("empty separator");
    for (; left > 0; --left) {
      const size_t found = text.bytes.find(*separator, at);
      if (found == std::string::npos) break;
      evaluator.Charge(1);
      parts.emplace_back(text.Slice(at, found));
      at = found + separator->size();
    }
    parts.emplace_back(text.Slice(at, size));
    return parts;
  }
  const auto skip = [&](bool spaces) {
    while (at < size && IsSpaceCharacter(CharacterAt(text, at)) == spaces) {
      at += CharacterAt(text, at).size();
    }
  };
  for (skip(true); at < size; skip(true)) {
    evaluator.Charge(1);
    const size_t begin = at;
    if (left-- == 0) {
      parts.emplace_back(Strip(text.Slice(begin, size), Side::kRight, nullptr));
      break;
    }
    skip(false);
    parts.emplace_back(text.Slice(begin, at));
  }
  return parts;
}

std::vector<Value> SplitFromRight(Evaluator& evaluator, const Text& text,
                                  const std::string& separator, int64_t count) {
  if (separator.empty()) evaluator.Fail("empty separator");
  evaluator.ChargeBytes(text.bytes.size());
  std::vector<Value> parts;
  size_t end = text.bytes.size();
  for (size_t left = CountLimit(count); left > 0 && end >= separator.size(); --left) {
    const size_t found = text.bytes.rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    evaluator.Charge(1);
    parts.emplace_back(text.Slice(found + separator.size(), end));
    end = found;
  }
  parts.emplace_back(text.Slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Value> SplitLines(const Evaluator& evaluator, const Text& text, bool keep_ends) {
  std::vector<Value> lines;
  const size_t size = text.bytes.size();
  size_t begin = 0;
  for (size_t at = 0; at < size;) {
    const std::string_view character = CharacterAt(text, at);
    const char32_t c = DecodeUtf8(character).code_point;
    // Python's other line boundaries (form feeds, separators) are too odd to be meant.
    if (c == 0x0B || c == 0x0C || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
        c == 0x2029) {
      evaluator.Fail("splitting lines of text with uncommon line boundaries is not supported");
    }
    const size_t end = at;
    at += character.size();
    if (c != '\n' && c != '\r') continue;
    if (c == '\r' && at < size && text.bytes[at] == '\n') ++at;
    lines.emplace_back(text.Slice(begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < size) lines.emplace_back(text.Slice(begin, size));
  return lines;
}

}  // namespace shoal::text::jinja
