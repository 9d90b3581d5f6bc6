// The shape of --help: what it does, what it needs, what it takes, and what the program adds.

#include <algorithm>
#include <sstream>

#include "transport/config/options.h"

namespace shoal::config {
namespace {

constexpr size_t kColumns = 100;
constexpr size_t kHelpColumn = 32;

// Appends words, broken before column kColumns; further lines start at `indent`.
void Wrap(std::string& out, std::string_view text, size_t indent) {
  const size_t line_start = out.rfind('\n');
  size_t column = out.size() - (line_start == std::string::npos ? 0 : line_start + 1);
  std::istringstream words{std::string(text)};
  bool first = true;
  for (std::string word; words >> word;) {
    if (!first && column + 1 + word.size() > kColumns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      out += " ";
      ++column;
    }
    out += word;
    column += word.size();
    first = false;
  }
  out += "\n";
}

void AppendOption(std::string& out, const Option& option) {
  std::string line = "  " + option.Flag();
  if (!option.positional && !option.placeholder.empty()) line += " " + option.placeholder;
  if (line.size() + 2 > kHelpColumn) {
    out += line + "\n" + std::string(kHelpColumn, ' ');
  } else {
    out += line + std::string(kHelpColumn - line.size(), ' ');
  }
  std::string text = option.help;
  if (!option.default_text.empty()) text += " [" + option.default_text + "]";
  Wrap(out, text, kHelpColumn);
}

}  // namespace

std::string OptionTable::Help() const {
  std::string out = "Usage: " + text_.program + " " + text_.usage + "\n\n";
  Wrap(out, text_.summary, 0);
  const auto is_required = [](const Option& option) { return option.required; };
  if (std::any_of(options_.begin(), options_.end(), is_required)) {
    out += "\nRequired:\n";
    for (const Option& option : options_) {
      if (option.required) AppendOption(out, option);
    }
  }
  out +=
      "\nOptions, with defaults in brackets. Each is also a key of the configuration file, with _ "
      "for -;\nthe command line wins.\n";
  for (const Option& option : options_) {
    if (!option.required) AppendOption(out, option);
  }
  Option file;
  file.name = "config";
  file.placeholder = "FILE";
  file.help = "Read this YAML file first: lines of 'key: value'.";
  AppendOption(out, file);
  out += "  --help, --version\n";
  if (!text_.epilog.empty()) out += "\n" + text_.epilog;
  if (out.back() != '\n') out += "\n";
  return out;
}

}  // namespace shoal::config
