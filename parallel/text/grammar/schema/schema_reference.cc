#include "parallel/text/grammar/schema/schema_reference.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "parallel/text/utf8.h"

namespace shoal::text::grammar {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string PercentDecoded(const SchemaAt& reference, std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      RefuseSchema(reference.path, "% must be followed by two hexadecimal digits; write %25 for %");
    }
    result += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return result;
}

std::string PointerUnescaped(const SchemaAt& reference, std::string_view token) {
  std::string result;
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      result += token[i];
      continue;
    }
    const char next = i + 1 < token.size() ? token[++i] : '\0';
    if (next != '0' && next != '1') {
      RefuseSchema(reference.path, "~ must be followed by 0 (for ~) or 1 (for /)");
    }
    result += next == '0' ? '~' : '/';
  }
  return result;
}

const SchemaJson* Step(const SchemaJson& from, const std::string& token) {
  if (from.is_object()) return FindKeyword(from, token);
  size_t index = 0;
  const auto number = std::from_chars(token.data(), token.data() + token.size(), index);
  const bool whole = number.ec == std::errc() && number.ptr == token.data() + token.size();
  return from.is_array() && whole && index < from.size() ? &from.at(index) : nullptr;
}

// `pointer`: as in RFC 6901.
const SchemaJson& Pointed(const SchemaJson& root, const SchemaAt& reference,
                          std::string_view pointer) {
  const SchemaJson* at = &root;
  for (size_t begin = 0; begin < pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin + 1), pointer.size());
    at = Step(*at, PointerUnescaped(reference, pointer.substr(begin + 1, end - begin - 1)));
    if (at == nullptr) {
      std::string place = "#";
      AppendRepaired(pointer.substr(0, end), place);
      RefuseSchema(reference.path, "nothing stands at " + place);
    }
    begin = end;
  }
  return *at;
}

// Schemas anywhere in `from` with that $anchor. Values that are no schemas have none.
void FindAnchors(const SchemaJson& from, const std::string& name,
                 std::vector<const SchemaJson*>& found) {
  constexpr std::string_view kValues[] = {"const", "enum", "default", "example", "examples"};
  if (from.is_object()) {
    const SchemaJson* anchor = FindKeyword(from, "$anchor");
    if (anchor != nullptr && *anchor == name) found.push_back(&from);
  }
  if (!from.is_structured()) return;
  for (const auto& [key, value] : from.items()) {
    const bool is_value = from.is_object() && std::find(std::begin(kValues), std::end(kValues),
                                                        key) != std::end(kValues);
    if (!is_value) FindAnchors(value, name, found);
  }
}

}  // namespace

const SchemaJson& ResolveReference(const SchemaJson& root, const SchemaAt& reference) {
  if (!reference.value.is_string()) RefuseSchema(reference.path, "must be a string");
  const auto text = reference.value.get<std::string>();
  const size_t hash = std::min(text.find('#'), text.size());
  const SchemaJson* id = root.is_object() ? FindKeyword(root, "$id") : nullptr;
  if (hash > 0 && (id == nullptr || *id != text.substr(0, hash))) {
    RefuseSchema(reference.path,
                 "only references into the same document, such as #/$defs/name, "
                 "are supported");
  }
  const std::string fragment =
      PercentDecoded(reference, std::string_view(text).substr(std::min(hash + 1, text.size())));
  if (fragment.empty()) return root;
  if (fragment[0] == '/') return Pointed(root, reference, fragment);
  std::vector<const SchemaJson*> found;
  FindAnchors(root, fragment, found);
  if (found.size() != 1) {
    RefuseSchema(reference.path, found.empty()
                                     ? "no schema has that $anchor; pointers begin with #/"
                                     : "several schemas have that $anchor");
  }
  return *found[0];
}

}  // namespace shoal::text::grammar
