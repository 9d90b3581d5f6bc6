// Python's str, repr, json.dumps and % of values. Characters keep the mark of where they came from;
// what Python adds (quotes, commas, escapes of template text) is the template's.

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "parallel/text/jinja/operators.h"
#include "parallel/text/utf8.h"

namespace shoal::text::jinja {
namespace {

std::string HexEscape(const char* format, uint32_t value) {
  std::array<char, 16> buffer;
  std::snprintf(buffer.data(), buffer.size(), format, value);
  return buffer.data();
}

// str.isprintable of a character beyond ASCII.
bool IsPrintable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

// Of the one beyond ASCII at `at`. Result: its bytes.
size_t AppendReprOfCharacter(const Text& text, size_t at, Text& out) {
  const Utf8Step step = DecodeUtf8(std::string_view(text.bytes).substr(at));
  if (step.kind != Utf8Step::Kind::kCharacter || IsPrintable(step.code_point)) {
    out.Append(text.Slice(at, at + step.length));
  } else {
    const char* format = step.code_point < 0x100     ? "\\x%02x"
                         : step.code_point < 0x10000 ? "\\u%04x"
                                                     : "\\U%08x";
    out.Append(HexEscape(format, step.code_point), text.IsUser(at));
  }
  return step.length;
}

void AppendRepr(const Text& text, Text& out) {
  // Python prefers single quotes, unless only they occur.
  const bool has_single = text.bytes.find('\'') != std::string::npos;
  const char quote = has_single && text.bytes.find('"') == std::string::npos ? '"' : '\'';
  out.Append(std::string_view(&quote, 1), false);
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    const char c = text.bytes[i];
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) {
      i += AppendReprOfCharacter(text, i, out) - 1;
      continue;
    }
    const bool user = text.IsUser(i);
    if (c == '\n' || c == '\r' || c == '\t') {
      out.Append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", user);
    } else if (byte < 0x20 || byte == 0x7F) {
      out.Append(HexEscape("\\x%02x", byte), user);
    } else {
      if (c == '\\' || c == quote) out.Append("\\", user);
      out.Append(std::string_view(&c, 1), user);
    }
  }
  out.Append(std::string_view(&quote, 1), false);
}

void AppendValue(Evaluator& evaluator, const Value& value, bool repr, Text& out);

void AppendItems(Evaluator& evaluator, const Value& value, Text& out) {
  if (value.IsMapping()) {
    out.Append("{", false);
    bool first = true;
    for (const auto& [key, item] : value.mapping().items) {
      if (!std::exchange(first, false)) out.Append(", ", false);
      AppendRepr(key, out);
      out.Append(": ", false);
      AppendValue(evaluator, item, true, out);
    }
    out.Append("}", false);
    return;
  }
  const Sequence& sequence = value.sequence();
  const bool tuple = sequence.kind == Sequence::Kind::kTuple;
  out.Append(tuple ? "(" : "[", false);
  for (size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) out.Append(", ", false);
    AppendValue(evaluator, sequence.items[i], true, out);
  }
  if (tuple && sequence.items.size() == 1) out.Append(",", false);
  out.Append(tuple ? ")" : "]", false);
}

// The nesting of values is bounded (kDepthMax), so this recursion is.
void AppendValue(Evaluator& evaluator, const Value& value, bool repr, Text& out) {
  evaluator.Charge(1);
  if (value.IsText()) {
    evaluator.ChargeBytes(value.text().bytes.size());
    repr ? AppendRepr(value.text(), out) : out.Append(value.text());
  } else if (value.IsUndefined()) {
    out.Append(repr ? "Undefined" : "", false);
  } else if (value.IsNone()) {
    out.Append("None", false);
  } else if (value.IsBool()) {
    out.Append(value.integer() != 0 ? "True" : "False", false);
  } else if (value.IsInteger()) {
    out.Append(std::to_string(value.integer()), false);
  } else if (value.IsFloat()) {
    out.Append(FloatText(value.number()), false);
  } else if (value.IsMapping() || (value.IsSequence() && !value.sequence().lazy())) {
    AppendItems(evaluator, value, out);
  } else {
    evaluator.Fail(std::string("printing a ") + value.type_name() + " is not supported");
  }
}

// A character as UTF-16, in the escapes of JSON.
std::string JsonEscape(char32_t c) {
  if (c < 0x10000) return HexEscape("\\u%04x", c);
  const char32_t rest = c - 0x10000;
  return HexEscape("\\u%04x", 0xD800 + (rest >> 10)) +
         HexEscape("\\u%04x", 0xDC00 + (rest & 0x3FF));
}

void AppendJsonString(const Text& text, bool ensure_ascii, Text& out) {
  out.Append("\"", false);
  for (size_t i = 0; i < text.bytes.size(); ++i) {
    if (const auto byte = static_cast<unsigned char>(text.bytes[i]); ensure_ascii && byte >= 0x7F) {
      const Utf8Step step = DecodeUtf8(std::string_view(text.bytes).substr(i));
      out.Append(JsonEscape(step.code_point), text.IsUser(i));
      i += step.length - 1;
      continue;
    }
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kTo = "\"\\nrtfb";
    const char c = text.bytes[i];
    const bool user = text.IsUser(i);
    if (const size_t index = kFrom.find(c); index != std::string_view::npos) {
      out.Append("\\", user);
      out.Append(kTo.substr(index, 1), user);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out.Append(HexEscape("\\u%04x", static_cast<unsigned char>(c)), user);
    } else {
      out.Append(std::string_view(&c, 1), user);
    }
  }
  out.Append("\"", false);
}

class JsonPrinter {
 public:
  JsonPrinter(Evaluator& evaluator, const JsonStyle& style)
      : evaluator_(evaluator), style_(style) {}

  void Print(const Value& value, int64_t level) {
    evaluator_.Charge(1);
    if (value.IsText()) {
      evaluator_.ChargeBytes(value.text().bytes.size());
      AppendJsonString(value.text(), style_.ensure_ascii, out);
    } else if (value.IsNone()) {
      out.Append("null", false);
    } else if (value.IsBool()) {
      out.Append(value.integer() != 0 ? "true" : "false", false);
    } else if (value.IsInteger()) {
      out.Append(std::to_string(value.integer()), false);
    } else if (value.IsFloat()) {
      Number(value.number());
    } else if (value.IsMapping()) {
      Object(value.mapping(), level);
    } else if (value.IsSequence() && !value.sequence().lazy()) {
      Array(value.sequence(), level);
    } else if (value.IsUndefined()) {
      evaluator_.Fail(value.undefined());
    } else {
      evaluator_.Fail(std::string("Object of type ") + value.type_name() +
                      " is not JSON serializable");
    }
  }

  Text out;

 private:
  void Number(double value) {
    if (std::isnan(value)) return out.Append("NaN", false);
    if (std::isinf(value)) return out.Append(value > 0 ? "Infinity" : "-Infinity", false);
    out.Append(FloatText(value), false);
  }

  void NewLine(int64_t level) {
    if (style_.indent < 0) return;
    evaluator_.ChargeBytes(static_cast<size_t>(style_.indent * level));
    out.Append("\n" + std::string(static_cast<size_t>(style_.indent * level), ' '), false);
  }

  void Object(const Mapping& mapping, int64_t level) {
    std::vector<const std::pair<Text, Value>*> items;
    for (const auto& item : mapping.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::sort(items.begin(), items.end(),
                [](const auto* a, const auto* b) { return a->first.bytes < b->first.bytes; });
    }
    out.Append("{", false);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out.Append(style_.between_items);
      NewLine(level + 1);
      AppendJsonString(items[i]->first, style_.ensure_ascii, out);
      out.Append(style_.after_key);
      Print(items[i]->second, level + 1);
    }
    if (!items.empty()) NewLine(level);
    out.Append("}", false);
  }

  void Array(const Sequence& sequence, int64_t level) {
    out.Append("[", false);
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out.Append(style_.between_items);
      NewLine(level + 1);
      Print(sequence.items[i], level + 1);
    }
    if (!sequence.items.empty()) NewLine(level);
    out.Append("]", false);
  }

  Evaluator& evaluator_;
  const JsonStyle& style_;
};

// One %d, %i, %s or %.Nf, whose letter is at `at`.
void AppendConversion(Evaluator& evaluator, char letter, const std::string& precision,
                      const Value& value, Text& out) {
  if (letter == 's' && precision.empty()) {
    out.Append(ToText(evaluator, value));
  } else if ((letter == 'd' || letter == 'i') && precision.empty() && value.IsNumber()) {
    const double number = value.number();
    if (value.IsFloat() && !(std::abs(number) < 9e18)) evaluator.Fail("a float too large for %d");
    out.Append(std::to_string(value.IsFloat() ? static_cast<int64_t>(number) : value.integer()),
               false);
  } else if (letter == 'f' && precision.size() <= 2 && value.IsNumber()) {
    std::array<char, 512> buffer;
    const int digits = precision.empty() ? 6 : std::atoi(precision.c_str());
    std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value.number());
    out.Append(buffer.data(), false);
  } else {
    evaluator.Fail(std::string("the conversion %") + letter + " of a " + value.type_name() +
                   " is not supported");
  }
}

}  // namespace

Text ToText(Evaluator& evaluator, const Value& value) {
  Text out;
  AppendValue(evaluator, value, false, out);
  return out;
}

Text ToJson(Evaluator& evaluator, const Value& value, const JsonStyle& style) {
  JsonPrinter printer(evaluator, style);
  printer.Print(value, 0);
  return std::move(printer.out);
}

Text FormatText(Evaluator& evaluator, const Text& format, const Value& arguments) {
  std::vector<Value> values(1, arguments);
  if (arguments.IsSequence() && arguments.sequence().kind == Sequence::Kind::kTuple) {
    values = arguments.sequence().items;
  }
  size_t used = 0;
  Text out;
  for (size_t at = 0; at < format.bytes.size();) {
    const size_t percent = std::min(format.bytes.find('%', at), format.bytes.size());
    out.Append(format.Slice(at, percent));
    if (percent == format.bytes.size()) break;
    at = percent + 1;
    std::string precision;
    if (at < format.bytes.size() && format.bytes[at] == '.') {
      for (++at;
           at < format.bytes.size() && std::isdigit(static_cast<unsigned char>(format.bytes[at]));
           ++at) {
        precision += format.bytes[at];
      }
    }
    if (at >= format.bytes.size()) evaluator.Fail("incomplete format");
    const char letter = format.bytes[at++];
    if (letter == '%') {
      out.Append("%", format.IsUser(percent));
    } else {
      if (used >= values.size()) evaluator.Fail("not enough arguments for format string");
      AppendConversion(evaluator, letter, precision, values[used++], out);
    }
  }
  if (used < values.size() && !arguments.IsMapping()) {
    evaluator.Fail("not all arguments converted during string formatting");
  }
  return out;
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 64> buffer;
  const double magnitude = std::abs(value);
  // Python's repr: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
  const bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer.data(), end.ptr);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace shoal::text::jinja
