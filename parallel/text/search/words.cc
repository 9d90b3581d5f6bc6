#include "parallel/text/search/words.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

bool IsWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return true;
    default:
      return false;
  }
}

// Of Unicode's blocks: kana, the ideographs and their extensions.
bool IsWordOfItsOwn(char32_t c) {
  return (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x20000 && c <= 0x3FFFF);
}

// As words compare: case folded, in NFKC.
std::string Folded(std::string word) {
  const bool is_ascii =
      std::ranges::all_of(word, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (is_ascii) {
    for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return word;
  }
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPAT |
                                                           UTF8PROC_CASEFOLD | UTF8PROC_COMPOSE);
  utf8proc_uint8_t* folded = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(word.data()),
                   static_cast<utf8proc_ssize_t>(word.size()), &folded, kOptions);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, std::free);
  if (length < 0) return word;  // It is well formed: only memory can be missing.
  return {reinterpret_cast<const char*>(folded), static_cast<size_t>(length)};
}

}  // namespace

std::vector<std::string> SplitWords(std::string_view text, size_t words_max) {
  std::vector<std::string> words;
  std::string word;
  const auto end = [&] {
    if (!word.empty() && words.size() < words_max) words.push_back(Folded(std::move(word)));
    word.clear();
  };
  while (!text.empty() && words.size() < words_max) {
    const Utf8Step step = DecodeUtf8(text);
    const std::string_view character = text.substr(0, step.length);
    text.remove_prefix(step.length);
    if (step.kind != Utf8Step::Kind::kCharacter || !IsWordCharacter(step.code_point)) {
      end();
      continue;
    }
    const bool alone = IsWordOfItsOwn(step.code_point);
    if (alone) end();
    word += character;
    if (alone) end();
  }
  end();
  return words;
}

}  // namespace shoal::text
