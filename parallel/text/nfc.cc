// Decompose, put marks into canonical order, compose.

#include "parallel/text/nfc.h"

#include <algorithm>
#include <map>

#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

// Hangul syllables are composed by arithmetic: lead, vowel and optional tail consonant.
constexpr uint32_t kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7, kSyllable = 0xAC00;
constexpr uint32_t kLeads = 19, kVowels = 21, kTails = 28;

struct Character {
  uint32_t code_point;
  uint8_t combining_class;
  bool plain;
};

// No smaller character decomposes, and none below the second is a mark or the second of a pair that
// composes: most text needs no search.
constexpr uint32_t kDecomposingMin = 0xC0, kMarkMin = 0x300;

uint8_t CombiningClass(uint32_t code_point) {
  if (code_point < kMarkMin) return 0;
  const auto ranges = CombiningRanges();
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), code_point,
      [](uint32_t value, const CombiningRange& range) { return value < range.first; });
  if (after == ranges.begin()) return 0;
  const CombiningRange& range = *(after - 1);
  return code_point - range.first < range.count ? range.combining_class : 0;
}

void AppendDecomposed(uint32_t code_point, bool plain, std::vector<Character>& out) {
  if (const uint32_t index = code_point - kSyllable; index < kLeads * kVowels * kTails) {
    out.push_back({kLead + index / (kVowels * kTails), 0, plain});
    out.push_back({kVowel + index / kTails % kVowels, 0, plain});
    if (index % kTails != 0) out.push_back({kTail + index % kTails, 0, plain});
    return;
  }
  if (code_point < kDecomposingMin) {
    out.push_back({code_point, 0, plain});
    return;
  }
  const auto all = Decompositions();
  const auto found = std::lower_bound(
      all.begin(), all.end(), code_point,
      [](const Decomposition& item, uint32_t value) { return item.code_point < value; });
  if (found == all.end() || found->code_point != code_point) {
    out.push_back({code_point, CombiningClass(code_point), plain});
    return;
  }
  AppendDecomposed(found->first, plain, out);
  if (found->second != 0) AppendDecomposed(found->second, plain, out);
}

using Pairs = std::map<std::pair<uint32_t, uint32_t>, uint32_t>;

// 0 if the two do not compose.
uint32_t Composed(uint32_t first, uint32_t second) {
  if (second < kMarkMin) return 0;
  if (first - kLead < kLeads && second - kVowel < kVowels) {
    return kSyllable + ((first - kLead) * kVowels + second - kVowel) * kTails;
  }
  const uint32_t index = first - kSyllable;
  if (index < kLeads * kVowels * kTails && index % kTails == 0 && second > kTail &&
      second < kTail + kTails) {
    return first + second - kTail;
  }
  static const Pairs pairs = [] {
    Pairs made;
    for (const Decomposition& item : Decompositions()) {
      if (item.composes) made[{item.first, item.second}] = item.code_point;
    }
    return made;
  }();
  const auto found = pairs.find({first, second});
  return found == pairs.end() ? 0 : found->second;
}

std::vector<Character> Compose(std::vector<Character> characters) {
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_starter = [](const Character& c) { return c.combining_class == 0; };
    begin = std::find_if_not(begin, characters.end(), is_starter);
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(begin, end, [](const Character& a, const Character& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
  std::vector<Character> out;
  ptrdiff_t starter = -1;
  for (const Character& c : characters) {
    const auto last = static_cast<ptrdiff_t>(out.size()) - 1;
    // A mark reaches the starter unless one of its own class or a later one stands between.
    if (starter >= 0 && (starter == last || out[last].combining_class < c.combining_class)) {
      if (const uint32_t composed = Composed(out[starter].code_point, c.code_point)) {
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

class Writer {
 public:
  void Append(std::string_view bytes, bool plain) {
    const size_t begin = result.text.size();
    result.text += bytes;
    if (!plain) return;
    if (!result.plain.empty() && result.plain.back().end == begin) {
      result.plain.back().end = result.text.size();
    } else {
      result.plain.push_back({begin, result.text.size()});
    }
  }

  void Append(std::vector<Character>& characters) {
    for (const Character& c : Compose(std::move(characters))) {
      std::string bytes;
      AppendUtf8(c.code_point, bytes);
      Append(bytes, c.plain);
    }
    characters.clear();
  }

  NormalizedText result;
};

}  // namespace

NormalizedText NormalizeNfc(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain) {
  Writer writer;
  std::vector<Character> characters;
  auto marked = FirstEndingAfter(plain, range.begin);
  for (size_t at = range.begin; at < range.end;) {
    const Utf8Step step = DecodeUtf8(text.substr(at, range.end - at));
    while (marked != plain.end() && marked->end <= at) ++marked;
    const bool is_plain = marked != plain.end() && marked->begin < at + step.length;
    if (step.kind == Utf8Step::Kind::kCharacter) {
      AppendDecomposed(step.code_point, is_plain, characters);
    } else {
      writer.Append(characters);
      writer.Append(text.substr(at, step.length), is_plain);
    }
    at += step.length;
  }
  writer.Append(characters);
  return std::move(writer.result);
}

}  // namespace shoal::text
