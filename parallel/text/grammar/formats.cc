#include "parallel/text/grammar/formats.h"

#include <map>

namespace shoal::text::grammar {
namespace {

using Formats = std::map<std::string, StringFormat, std::less<>>;

std::string Ipv4() {
  const std::string octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  return octet + "(\\." + octet + "){3}";
}

// Groups of 16 bits, the last two of which may be written as an IPv4 address; :: stands for one or
// more that are 0, once.
std::string Ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  const std::string last = "(" + group + ":" + group + "|" + Ipv4() + ")";
  const auto groups = [&](int count) {  // Each with its colon.
    return "(" + group + ":){" + std::to_string(count) + "}";
  };
  const auto before = [&](int max) {  // What may precede the ::, then the ::.
    if (max == 0) return std::string("::");
    return "((" + group + ":){0," + std::to_string(max - 1) + "}" + group + ")?::";
  };
  std::string pattern = groups(6) + last;
  for (int max = 0; max <= 5; ++max) pattern += "|" + before(max) + groups(5 - max) + last;
  return pattern + "|" + before(6) + group + "|" + before(7);
}

// A scheme, then an authority with a path, or a path; a query; a fragment (RFC 3986).
std::string Uri() {
  const std::string escape = "%[0-9A-Fa-f]{2}";
  const std::string plain = "A-Za-z0-9._~!$&'()*+,;=\\-";
  const auto any_of = [&](const std::string& more) {
    return "([" + plain + more + "]|" + escape + ")";
  };
  const std::string segments = "(/" + any_of(":@") + "*)*";
  const std::string literal = "\\[(" + Ipv6() + "|v[0-9A-Fa-f]+\\.[" + plain + ":]+)\\]";
  const std::string authority =
      "(" + any_of(":") + "*@)?(" + literal + "|" + any_of("") + "*)(:[0-9]*)?";
  const std::string path =
      "(//" + authority + segments + "|/?(" + any_of(":@") + "+" + segments + ")?)";
  const std::string tail = any_of(":@/?") + "*";
  return "[A-Za-z][A-Za-z0-9+.\\-]*:" + path + "(\\?" + tail + ")?(#" + tail + ")?";
}

// RFC 3339, appendix A.
std::string Duration() {
  const std::string number = "[0-9]{1,16}";
  const std::string seconds = number + "S";
  const std::string minutes = number + "M(" + seconds + ")?";
  const std::string hours = number + "H(" + minutes + ")?";
  const std::string time = "T(" + hours + "|" + minutes + "|" + seconds + ")";
  const std::string days = number + "D";
  const std::string months = number + "M(" + days + ")?";
  const std::string years = number + "Y(" + months + ")?";
  return "P((" + days + "|" + months + "|" + years + ")(" + time + ")?|" + time + "|" + number +
         "W)";
}

// Labels of 1 to 63 letters, digits and single hyphens inside; the last begins with a letter, so
// that no number is a name.
StringFormat Hostname() {
  const std::string rest = "([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  return {{"([A-Za-z0-9]" + rest + "\\.)*[A-Za-z]" + rest, "[A-Za-z0-9.]+(-[A-Za-z0-9.]+)*"}, 253};
}

// Narrower than what the formats allow where checkers disagree: no February 29, years of four
// digits, no leap seconds, plain e-mail addresses and host names.
Formats MakeFormats() {
  const std::string date =
      "([1-9][0-9]{3})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-"
      "(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
  const std::string clock = "([01][0-9]|2[0-3]):[0-5][0-9]";
  const std::string time = clock + ":[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" + clock + ")";
  const std::string word = "[A-Za-z0-9_+-]{1,64}";
  const std::string label = "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?";
  return {
      {"date-time", {{date + "T" + time}}},
      {"date", {{date}}},
      {"duration", {{Duration()}}},
      {"email", {{word + "(\\." + word + "){0,3}@(" + label + "\\.){1,4}[A-Za-z]{2,16}"}}},
      {"hostname", Hostname()},
      {"ipv4", {{Ipv4()}}},
      {"ipv6", {{Ipv6()}}},
      {"time", {{time}}},
      {"uri", {{Uri()}}},
      {"uuid", {{"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}}},
  };
}

const Formats& AllFormats() {
  static const Formats kFormats = MakeFormats();
  return kFormats;
}

}  // namespace

const StringFormat* FindFormat(std::string_view name) {
  const auto format = AllFormats().find(name);
  return format == AllFormats().end() ? nullptr : &format->second;
}

std::string FormatNames() {
  std::string names;
  for (const auto& [name, format] : AllFormats()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace shoal::text::grammar
