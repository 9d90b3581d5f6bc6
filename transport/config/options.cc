// CLI11 splits the command line and yaml-cpp the file; what a value may be is decided here, once
// for both.

#include "transport/config/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iostream>

#include "transport/base/error.h"

namespace shoal::config {
namespace {

template <typename T>
bool ParseNumber(const std::string& text, T lowest, T highest, T& value) {
  T parsed{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if (!(parsed >= lowest && parsed <= highest)) return false;  // NaN too.
  value = parsed;
  return true;
}

std::string ExpectedInteger(const IntRange& range) {
  if (range.highest == INT64_MAX) return Str("an integer of at least ", range.lowest);
  return Str("an integer from ", range.lowest, " to ", range.highest);
}

template <typename T>
Option IntegerOption(T& field, IntRange range) {
  range.highest = std::min<int64_t>(range.highest, std::numeric_limits<T>::max());
  Option option;
  option.default_text = Str(field);
  option.expected = ExpectedInteger(range);
  option.assign = [&field, range](const std::string& text) {
    int64_t value = 0;
    if (!ParseNumber<int64_t>(text, range.lowest, range.highest, value)) return false;
    field = static_cast<T>(value);
    return true;
  };
  return option;
}

}  // namespace

std::string Option::Key() const {
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

std::string Option::Flag() const { return positional ? placeholder : "--" + name; }

Option& OptionTable::Add(Option option) {
  SHOAL_CHECK(Find(option.name) == nullptr, "--", option.name, " is listed twice");
  options_.push_back(std::move(option));
  return options_.back();
}

Option& OptionTable::AddString(std::string name, std::string placeholder, std::string& field,
                               std::string help) {
  return Add({.name = std::move(name),
              .placeholder = std::move(placeholder),
              .help = std::move(help),
              .default_text = field,
              .expected = "text that is not empty",
              .is_text = true,
              .assign = [&field](const std::string& text) {
                field = text;
                return !text.empty();
              }});
}

Option& OptionTable::AddInt(std::string name, std::string placeholder, int64_t& field,
                            IntRange range, std::string help) {
  Option option = IntegerOption(field, range);
  option.name = std::move(name);
  option.placeholder = std::move(placeholder);
  option.help = std::move(help);
  return Add(std::move(option));
}

Option& OptionTable::AddInt(std::string name, std::string placeholder, int32_t& field,
                            IntRange range, std::string help) {
  Option option = IntegerOption(field, range);
  option.name = std::move(name);
  option.placeholder = std::move(placeholder);
  option.help = std::move(help);
  return Add(std::move(option));
}

Option& OptionTable::AddDouble(std::string name, std::string placeholder, double& field,
                               DoubleRange range, std::string help) {
  return Add({.name = std::move(name),
              .placeholder = std::move(placeholder),
              .help = std::move(help),
              .default_text = Str(field),
              .expected = Str("a number from ", range.lowest, " to ", range.highest),
              .assign = [&field, range](const std::string& text) {
                return ParseNumber(text, range.lowest, range.highest, field);
              }});
}

Option& OptionTable::AddBool(std::string name, bool& field, std::string help) {
  return Add({.name = std::move(name),
              .help = std::move(help),
              .default_text = field ? "true" : "",
              .expected = "true or false",
              .assign = [&field](const std::string& text) {
                if (text != "true" && text != "false") return false;
                field = text == "true";
                return true;
              }});
}

Option& OptionTable::AddPositional(std::string name, std::string& field, std::string help) {
  std::string placeholder = name;
  for (char& letter : placeholder) {
    letter = static_cast<char>(letter == '-' ? '_' : std::toupper(static_cast<uint8_t>(letter)));
  }
  Option& option = AddString(std::move(name), std::move(placeholder), field, std::move(help));
  option.required = true;
  option.positional = true;
  return option;
}

const Option* OptionTable::Find(std::string_view name) const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.name == name; });
  return found == options_.end() ? nullptr : &*found;
}

bool OptionTable::IsGiven(std::string_view name) const {
  SHOAL_CHECK(Find(name) != nullptr, "no option ", name);
  return given_.contains(name);
}

const std::string& OptionTable::ValueText(std::string_view name) const {
  const Option* const option = Find(name);
  SHOAL_CHECK(option != nullptr, "no option ", name);
  const auto given = given_.find(name);
  return given == given_.end() ? option->default_text : given->second;
}

ParseOutcome OptionTable::Parse(int argc, const char* const* argv) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") {
      std::cout << Help() << std::flush;
      return ParseOutcome::kPrinted;
    }
    if (argument == "--version") {
      std::cout << text_.program << ' ' << kVersion << std::endl;
      return ParseOutcome::kPrinted;
    }
  }
  given_.clear();
  file_.clear();
  ReadCommandLine(arguments);
  if (!file_.empty()) ReadFile(file_);
  CheckRequired();
  return ParseOutcome::kRun;
}

void OptionTable::ReadCommandLine(std::vector<std::string> arguments) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::string> flags{"--config", "--help", "--version"};
  // TakeAll, so that a flag that is given twice is seen here and not silently resolved there.
  const auto all = CLI::MultiOptionPolicy::TakeAll;
  for (const Option& option : options_) {
    std::vector<std::string>& into = values[option.name];
    if (!option.positional) flags.push_back(option.Flag());
    if (option.placeholder.empty()) {
      app.add_flag_function(
             option.Flag(), [](int64_t) {}, "")
          ->multi_option_policy(all)
          ->each([&into](const std::string& text) { into.push_back(text); });
    } else {
      app.add_option(option.positional ? option.name : option.Flag(), into)
          ->expected(option.implied.empty() ? 1 : 0, 1)
          ->default_str(option.implied)
          ->allow_extra_args(false)
          ->multi_option_policy(all);
    }
  }
  app.add_option("--config", file_)->expected(1);
  std::reverse(arguments.begin(), arguments.end());  // As CLI11 wants them.
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {  // Its words name the flag; only the code is ours.
    Throw(ErrorCode::kInvalidArgument, error.what(), ": see ", text_.program, " --help");
  }
  for (const std::string& extra : app.remaining()) {
    const std::string flag = extra.substr(0, extra.find('='));
    Throw(ErrorCode::kInvalidArgument, "unknown argument ", flag, Suggestion(flag, flags), ": see ",
          text_.program, " --help");
  }
  for (const Option& option : options_) {
    const std::vector<std::string>& found = values[option.name];
    if (found.empty()) continue;
    if (found.size() > 1) {
      Throw(ErrorCode::kInvalidArgument, option.Flag(), ": expected once, found ", found.size(),
            " times");
    }
    if (!option.assign(found[0])) {
      Throw(ErrorCode::kInvalidArgument, option.Flag(), ": expected ", option.expected, ", found '",
            found[0], "'");
    }
    given_[option.name] = found[0];
  }
}

void OptionTable::ReadFile(const std::string& path) {
  std::vector<std::string> keys;
  for (const Option& option : options_) keys.push_back(option.Key());
  for (const YamlEntry& entry : ReadYamlFile(path)) {
    const auto where = [&] { return Str(path, ", line ", entry.line, ": ", entry.key); };
    const auto found = std::find(keys.begin(), keys.end(), entry.key);
    if (found == keys.end()) {
      Throw(ErrorCode::kInvalidArgument, where(), " is no known key", Suggestion(entry.key, keys));
    }
    const Option& option = options_[static_cast<size_t>(found - keys.begin())];
    if (given_.contains(option.name)) continue;  // The command line wins.
    if ((entry.quoted && !option.is_text) || !option.assign(entry.value)) {
      Throw(ErrorCode::kInvalidArgument, where(), ": expected ", option.expected, ", found ",
            entry.quoted ? "the text " : "", "'", entry.value, "'");
    }
    given_[option.name] = entry.value;
  }
}

void OptionTable::CheckRequired() const {
  for (const Option& option : options_) {
    if (!option.required || given_.contains(option.name)) continue;
    Throw(ErrorCode::kInvalidArgument, option.Flag(), " is required: see ", text_.program,
          " --help");
  }
}

}  // namespace shoal::config
