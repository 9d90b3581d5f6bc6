#pragma once

// The options of a program, listed once: the list reads the command line and the YAML file, checks
// both alike, and prints --help.
//
//   WorkerOptions options;
//   config::OptionTable table({.program = "shoal-worker", ...});
//   table.AddInt("threads", "T", options.threads, {0, 1024}, "Threads of this rank.");
//   if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
//
// A field's value when it is added is its default. --config, --help and --version are there
// unasked.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/base/check.h"

namespace shoal::config {

constexpr std::string_view kVersion = "0.1.0";

struct ProgramText {
  std::string program{};  // "shoal-worker", or "shoal run".
  std::string usage{};    // What follows it: "--coordinator HOST:PORT [options]".
  std::string summary{};  // A paragraph; it is wrapped.
  std::string epilog{};   // Environment, exit status, an example; printed as it is.
};

struct IntRange {
  int64_t lowest = INT64_MIN;
  int64_t highest = INT64_MAX;
};

struct DoubleRange {
  double lowest;
  double highest;
};

// One row of the list.
struct Option {
  std::string name;           // "tensor-parallel": the flag without dashes.
  std::string placeholder{};  // "N"; empty for a flag that takes no value.
  std::string help{};
  std::string default_text{};  // Empty: none is shown.
  std::string implied{};   // The value of a flag that is given without one; empty: it needs one.
  std::string expected{};  // "an integer from 1 to 256", for messages.
  bool required = false;
  bool positional = false;
  bool is_text = false;  // A YAML string is right for it; otherwise a quoted value is an error.
  // Takes the text of a value into the bound field. Result: false if it is not as expected.
  std::function<bool(const std::string& text)> assign{};

  std::string Key() const;   // "tensor_parallel"
  std::string Flag() const;  // "--tensor-parallel", or "MODEL" for a positional argument.
};

enum class [[nodiscard]] ParseOutcome : uint8_t{
    kRun,
    kPrinted,  // --help or --version went to stdout: end with 0.
};

// Threading: one thread. The bound fields must outlive the table.
class OptionTable {
 public:
  explicit OptionTable(ProgramText text) : text_(std::move(text)) {}

  // Result: the row, for `.required = true`.
  Option& AddString(std::string name, std::string placeholder, std::string& field,
                    std::string help);
  Option& AddInt(std::string name, std::string placeholder, int64_t& field, IntRange range,
                 std::string help);
  Option& AddInt(std::string name, std::string placeholder, int32_t& field, IntRange range,
                 std::string help);
  Option& AddDouble(std::string name, std::string placeholder, double& field, DoubleRange range,
                    std::string help);
  // On the command line a flag without a value (or =true, =false); in YAML true or false.
  Option& AddBool(std::string name, bool& field, std::string help);
  // One of a few words. `choices` maps them to values; the field's value must be among them.
  template <typename T>
  Option& AddChoice(std::string name, T& field, std::vector<std::pair<std::string, T>> choices,
                    std::string help);
  // A required argument without a flag, in the order of addition: AddPositional("model", ...) is
  // MODEL in the usage and `model` in YAML.
  Option& AddPositional(std::string name, std::string& field, std::string help);

  // Reads the command line (argv[0] is skipped), and the YAML file if it names one; of the two the
  // command line wins.
  // Errors: kInvalidArgument, naming the flag, or the file, line and key; what was expected; what
  // was found; for an unknown name the nearest known one.
  ParseOutcome Parse(int argc, const char* const* argv);

  // Whether the option was given, on the command line or in the file.
  bool IsGiven(std::string_view name) const;
  // Its value as text: as it was given, or the default.
  const std::string& ValueText(std::string_view name) const;

  std::string Help() const;
  const std::vector<Option>& options() const { return options_; }

 private:
  Option& Add(Option option);
  void ReadCommandLine(std::vector<std::string> arguments);
  void ReadFile(const std::string& path);
  void CheckRequired() const;
  const Option* Find(std::string_view name) const;

  ProgramText text_;
  std::vector<Option> options_;
  std::map<std::string, std::string, std::less<>> given_;  // By name: the value's text.
  std::string file_;
};

// The word of `words` that was most likely meant, or nothing if none is near: "" or
// ", did you mean NAME?".
std::string Suggestion(std::string_view word, const std::vector<std::string>& words);

// One `key: value` of a flat YAML file.
struct YamlEntry {
  std::string key;
  std::string value;
  bool quoted = false;
  int64_t line = 0;  // From 1.
};

// Errors: kInvalidArgument, naming file and line, if it is unreadable, not YAML, not a map of
// scalars, or has a key twice.
std::vector<YamlEntry> ReadYamlFile(const std::string& path);

template <typename T>
Option& OptionTable::AddChoice(std::string name, T& field,
                               std::vector<std::pair<std::string, T>> choices, std::string help) {
  Option option{.name = std::move(name), .help = std::move(help), .is_text = true};
  for (const auto& [word, value] : choices) {
    option.placeholder += (option.placeholder.empty() ? "" : "|") + word;
    if (value == field) option.default_text = word;
  }
  SHOAL_CHECK(!option.default_text.empty(), option.name, " has a default that is no choice");
  option.expected = "one of " + option.placeholder;
  option.assign = [&field, choices = std::move(choices)](const std::string& text) {
    for (const auto& [word, value] : choices) {
      if (word != text) continue;
      field = value;
      return true;
    }
    return false;
  };
  return Add(std::move(option));
}

}  // namespace shoal::config
