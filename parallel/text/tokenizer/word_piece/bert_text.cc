// One pass for each step of the normalization, in the order that the reference has them.

#include "parallel/text/tokenizer/word_piece/bert_text.h"

#include <utf8proc.h>

#include "parallel/text/tokenizer/word_piece/bert_characters.h"
#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

// Calls `each` with the text's parts: a character, or bytes that are none (code point -1).
constexpr char32_t kNoCharacter = 0xFFFFFFFF;
template <typename Each>
void ForEachCharacter(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                      const Each& each) {
  auto marked = FirstEndingAfter(plain, range.begin);
  for (size_t at = range.begin; at < range.end;) {
    const Utf8Step step = DecodeUtf8(text.substr(at, range.end - at));
    while (marked != plain.end() && marked->end <= at) ++marked;
    const bool is_plain = marked != plain.end() && marked->begin < at + step.length;
    const bool whole = step.kind == Utf8Step::Kind::kCharacter;
    each(text.substr(at, step.length), whole ? step.code_point : kNoCharacter, is_plain);
    at += step.length;
  }
}

// Cleans and separates.
NormalizedText Cleaned(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                       const BertNormalization& how) {
  NormalizedText out;
  ForEachCharacter(text, range, plain, [&](std::string_view bytes, char32_t c, bool is_plain) {
    if (how.clean && (c == kNoCharacter || IsBertControl(c))) return;
    if (how.clean && IsBertSpace(c)) {
      out.Append(" ", is_plain);
    } else if (how.separate_cjk && IsBertChinese(c)) {
      out.Append(" ", is_plain);
      out.Append(bytes, is_plain);
      out.Append(" ", is_plain);
    } else {
      out.Append(bytes, is_plain);
    }
  });
  return out;
}

NormalizedText Lowered(const NormalizedText& text) {
  NormalizedText out;
  ForEachCharacter(
      text.text, {0, text.text.size()}, text.plain,
      [&](std::string_view bytes, char32_t c, bool is_plain) {
        if (c == kNoCharacter) return out.Append(bytes, is_plain);
        std::string lower;
        // The only character whose lower case is two.
        if (c == 0x130) {
          lower = "i\u0307";
        } else {
          AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))),
                     lower);
        }
        out.Append(lower, is_plain);
      });
  return out;
}

NormalizedText WithoutAccents(const NormalizedText& text) {
  const NormalizedText apart = NormalizeNfd(text.text, {0, text.text.size()}, text.plain);
  NormalizedText out;
  ForEachCharacter(apart.text, {0, apart.text.size()}, apart.plain,
                   [&](std::string_view bytes, char32_t c, bool is_plain) {
                     const bool is_mark = c != kNoCharacter && IsBertAccent(c);
                     if (!is_mark) out.Append(bytes, is_plain);
                   });
  return out;
}

}  // namespace

NormalizedText NormalizeBert(std::string_view text, ByteRange range,
                             std::span<const ByteRange> plain, const BertNormalization& how) {
  NormalizedText out = Cleaned(text, range, plain, how);
  if (how.strip_accents) out = WithoutAccents(out);
  if (how.lowercase) out = Lowered(out);
  return out;
}

void SplitBertWords(std::string_view text, const std::function<void(std::string_view)>& emit) {
  size_t begin = 0;
  size_t end = 0;
  const auto finish = [&](size_t next) {
    if (end > begin) emit(text.substr(begin, end - begin));
    begin = end = next;
  };
  ForEachCharacter(text, {0, text.size()}, {}, [&](std::string_view bytes, char32_t c, bool) {
    const bool is_space = c != kNoCharacter && IsBertSpace(c);
    const bool is_mark = c != kNoCharacter && IsBertPunctuation(c);
    const size_t next = end + bytes.size();
    if (!is_space && !is_mark) {
      end = next;
      return;
    }
    finish(end);
    if (is_mark) emit(bytes);
    begin = end = next;
  });
  finish(end);
}

}  // namespace shoal::text
