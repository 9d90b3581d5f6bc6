#pragma once

// As much of JSON as a client of ours needs: one value of a text found by its path, and a string
// written. A text that is no JSON gives nothing. Standard library only.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::client {

namespace json_detail {

constexpr int kDepthMax = 64;

inline size_t SkipSpace(std::string_view json, size_t at) {
  while (at < json.size() && std::string_view(" \t\r\n").find(json[at]) != std::string_view::npos) {
    ++at;
  }
  return at;
}

// The place after the string that begins at `at`; npos if it does not end.
inline size_t EndOfString(std::string_view json, size_t at) {
  for (size_t i = at + 1; i < json.size(); ++i) {
    if (json[i] == '\\') {
      ++i;
    } else if (json[i] == '"') {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

// The place after the value that begins at `at`; npos if there is none.
inline size_t EndOfValue(std::string_view json, size_t at) {
  int depth = 0;
  while (at < json.size()) {
    const char c = json[at];
    if (c == '"') {
      at = EndOfString(json, at);
      if (at == std::string_view::npos) return at;
    } else if (c == '{' || c == '[') {
      if (++depth > kDepthMax) return std::string_view::npos;
      ++at;
    } else if (c == '}' || c == ']') {
      if (--depth < 0) return std::string_view::npos;
      ++at;
    } else {
      const size_t end = json.find_first_of(" \t\r\n,:\"{}[]", at);
      if (end == at && depth == 0) return std::string_view::npos;
      at = end == at ? at + 1 : std::min(end, json.size());
    }
    if (depth == 0) return at;
  }
  return std::string_view::npos;
}

inline void AppendUtf8(uint32_t code, std::string& text) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

inline std::optional<uint32_t> ReadHex4(std::string_view text, size_t at) {
  uint32_t code = 0;
  if (at + 4 > text.size()) return std::nullopt;
  const auto read = std::from_chars(text.data() + at, text.data() + at + 4, code, 16);
  if (read.ec != std::errc() || read.ptr != text.data() + at + 4) return std::nullopt;
  return code;
}

}  // namespace json_detail

// The text of the value at that path of keys and, in arrays, indices: {"choices", "0", "text"}.
inline std::optional<std::string_view> FindJson(std::string_view json,
                                                std::initializer_list<std::string_view> path) {
  using json_detail::EndOfValue;
  using json_detail::SkipSpace;
  size_t at = SkipSpace(json, 0);
  for (const std::string_view step : path) {
    if (at >= json.size() || (json[at] != '{' && json[at] != '[')) return std::nullopt;
    const bool is_object = json[at] == '{';
    size_t index = 0;
    bool found = false;
    for (at = SkipSpace(json, at + 1); at < json.size() && !found;) {
      std::string_view key;
      if (is_object) {
        const size_t end = json[at] == '"' ? json_detail::EndOfString(json, at) : json.npos;
        if (end == json.npos) return std::nullopt;
        key = json.substr(at + 1, end - at - 2);
        at = SkipSpace(json, end);
        if (at >= json.size() || json[at] != ':') return std::nullopt;
        at = SkipSpace(json, at + 1);
      }
      found = is_object ? key == step : std::to_string(index++) == step;
      if (found) break;
      at = EndOfValue(json, at);
      if (at == json.npos) return std::nullopt;
      at = SkipSpace(json, at);
      if (at >= json.size() || json[at] != ',') return std::nullopt;
      at = SkipSpace(json, at + 1);
    }
    if (!found) return std::nullopt;
  }
  const size_t end = EndOfValue(json, at);
  if (end == json.npos) return std::nullopt;
  return json.substr(at, end - at);
}

// Of a value as FindJson gives it; none if it is no string.
inline std::optional<std::string> ReadJsonString(std::optional<std::string_view> value) {
  if (!value || value->size() < 2 || value->front() != '"') return std::nullopt;
  const std::string_view text = value->substr(1, value->size() - 2);
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || ++i >= text.size()) {
      result += text[i];
      continue;
    }
    constexpr std::string_view kLetters = "bfnrt";
    constexpr std::string_view kMeant = "\b\f\n\r\t";
    const size_t letter = kLetters.find(text[i]);
    if (letter != std::string_view::npos) {
      result += kMeant[letter];
    } else if (text[i] == 'u') {
      std::optional<uint32_t> code = json_detail::ReadHex4(text, i + 1);
      if (!code) return std::nullopt;
      i += 4;
      const bool is_high = *code >= 0xD800 && *code < 0xDC00;
      if (is_high && text.substr(i + 1, 2) == "\\u") {
        const std::optional<uint32_t> low = json_detail::ReadHex4(text, i + 3);
        if (!low || *low < 0xDC00 || *low > 0xDFFF) return std::nullopt;
        code = 0x10000 + ((*code - 0xD800) << 10) + (*low - 0xDC00);
        i += 6;
      }
      const bool is_half = *code >= 0xD800 && *code <= 0xDFFF;
      json_detail::AppendUtf8(is_half ? 0xFFFD : *code, result);
    } else {
      result += text[i];
    }
  }
  return result;
}

inline std::optional<int64_t> ReadJsonInt(std::optional<std::string_view> value) {
  int64_t number = 0;
  if (!value) return std::nullopt;
  const char* const end = value->data() + value->size();
  const auto read = std::from_chars(value->data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return number;
}

// A string as JSON writes it, with its quotes. The text is UTF-8.
inline std::string QuoteJson(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      result += {'\\',
                 'u',
                 '0',
                 '0',
                 kDigits[static_cast<size_t>(c >> 4)],
                 kDigits[static_cast<size_t>(c & 15)]};
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace shoal::client
