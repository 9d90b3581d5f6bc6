// Decompose, put marks into canonical order, compose if asked.

#include "parallel/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

struct Character {
  utf8proc_int32_t code_point;
  utf8proc_propval_t combining_class;
  bool plain;
};

struct CodePoints {
  char32_t first;
  char32_t last;
};

// What came after Unicode 9 and is a mark or decomposes. It stays as it is, wherever it stands: the
// vocabularies' own tokenizers (the crate unicode-normalization-alignments) know Unicode 9.
constexpr CodePoints kAfterUnicode9[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

bool IsAfterUnicode9(char32_t code_point) {
  const auto range = std::lower_bound(
      std::begin(kAfterUnicode9), std::end(kAfterUnicode9), code_point,
      [](const CodePoints& points, char32_t value) { return points.last < value; });
  return range != std::end(kAfterUnicode9) && range->first <= code_point;
}

// No smaller character decomposes, and none below the second is a mark or the second of a pair that
// composes: most text needs no search.
constexpr char32_t kDecomposingMin = 0xC0, kMarkMin = 0x300;

void AppendDecomposed(char32_t code_point, bool plain, std::vector<Character>& out) {
  const auto whole = static_cast<utf8proc_int32_t>(code_point);
  if (code_point < kDecomposingMin || IsAfterUnicode9(code_point)) {
    out.push_back({whole, 0, plain});
    return;
  }
  utf8proc_int32_t parts[4];  // As many as the longest canonical decomposition has.
  int unused = 0;
  const utf8proc_ssize_t part_count =
      utf8proc_decompose_char(whole, parts, std::size(parts), UTF8PROC_DECOMPOSE, &unused);
  SHOAL_CHECK(part_count > 0 && part_count <= std::ssize(parts));
  for (const utf8proc_int32_t part : std::span(parts).first(part_count)) {
    out.push_back({part, utf8proc_get_property(part)->combining_class, plain});
  }
}

// The vowel before the first tail consonant, which utf8proc takes for a tail: it would vanish.
constexpr utf8proc_int32_t kNoTail = 0x11A7;

// 0 if the two do not compose.
utf8proc_int32_t Composed(utf8proc_int32_t first, utf8proc_int32_t second) {
  if (second < static_cast<utf8proc_int32_t>(kMarkMin) || second == kNoTail) return 0;
  utf8proc_int32_t pair[] = {first, second};
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair, 2, kOptions) != 1) return 0;
  return IsAfterUnicode9(pair[0]) ? 0 : pair[0];
}

// Marks after a character, in canonical order.
void Order(std::vector<Character>& characters) {
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_starter = [](const Character& c) { return c.combining_class == 0; };
    begin = std::find_if_not(begin, characters.end(), is_starter);
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(begin, end, [](const Character& a, const Character& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
}

std::vector<Character> Compose(const std::vector<Character>& characters) {
  std::vector<Character> out;
  ptrdiff_t starter = -1;
  for (const Character& c : characters) {
    const auto last = static_cast<ptrdiff_t>(out.size()) - 1;
    // A mark reaches the starter unless one of its own class or a later one stands between.
    if (starter >= 0 && (starter == last || out[last].combining_class < c.combining_class)) {
      if (const auto composed = Composed(out[starter].code_point, c.code_point); composed != 0) {
        out[starter].code_point = composed;
        out[starter].plain |= c.plain;
        continue;
      }
    }
    if (c.combining_class == 0) starter = last + 1;
    out.push_back(c);
  }
  return out;
}

void AppendCharacters(std::vector<Character>& characters, bool compose, NormalizedText& out) {
  Order(characters);
  if (compose) characters = Compose(characters);
  for (const Character& c : characters) {
    std::string bytes;
    AppendUtf8(static_cast<char32_t>(c.code_point), bytes);
    out.Append(bytes, c.plain);
  }
  characters.clear();
}

NormalizedText Normalize(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                         bool compose) {
  NormalizedText normalized;
  std::vector<Character> characters;
  auto marked = FirstEndingAfter(plain, range.begin);
  for (size_t at = range.begin; at < range.end;) {
    const Utf8Step step = DecodeUtf8(text.substr(at, range.end - at));
    while (marked != plain.end() && marked->end <= at) ++marked;
    const bool is_plain = marked != plain.end() && marked->begin < at + step.length;
    if (step.kind == Utf8Step::Kind::kCharacter) {
      AppendDecomposed(step.code_point, is_plain, characters);
    } else {
      AppendCharacters(characters, compose, normalized);
      normalized.Append(text.substr(at, step.length), is_plain);
    }
    at += step.length;
  }
  AppendCharacters(characters, compose, normalized);
  return normalized;
}

}  // namespace

void NormalizedText::Append(std::string_view bytes, bool is_plain) {
  const size_t begin = text.size();
  text += bytes;
  if (!is_plain) return;
  if (!plain.empty() && plain.back().end == begin) {
    plain.back().end = text.size();
  } else {
    plain.push_back({begin, text.size()});
  }
}

NormalizedText NormalizeNfc(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain) {
  return Normalize(text, range, plain, true);
}

NormalizedText NormalizeNfd(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain) {
  return Normalize(text, range, plain, false);
}

}  // namespace shoal::text
