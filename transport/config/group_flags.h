#pragma once

// The flags that say how a group of ranks is cut and run, described once: for shoal-worker, which
// binds them to its fields, and for the verbs of `shoal` that start workers and pass them on.

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/base/check.h"
#include "transport/config/options.h"

namespace shoal::config {

struct GroupFlag {
  std::string_view name;
  std::string_view placeholder;  // "N", or the words of a choice: "on|off".
  IntRange range{};              // Of a number.
  std::string_view default_text;
  std::string_view help;

  bool is_choice() const { return placeholder.find('|') != std::string_view::npos; }
  std::vector<std::string> words() const;
};

std::span<const GroupFlag> GroupFlags();
// Precondition: there is such a flag.
const GroupFlag& FindGroupFlag(std::string_view name);

// A row for a flag whose value this program uses. Its default is the field's, as in any table.
template <std::integral Int>
Option& AddGroupFlag(OptionTable& table, std::string_view name, Int& field) {
  const GroupFlag& flag = FindGroupFlag(name);
  return table.AddInt(std::string(name), std::string(flag.placeholder), field, flag.range,
                      std::string(flag.help));
}

// `values`: in the order of the flag's words.
template <typename T>
Option& AddGroupFlag(OptionTable& table, std::string_view name, T& field,
                     const std::vector<std::type_identity_t<T>>& values) {
  const GroupFlag& flag = FindGroupFlag(name);
  const std::vector<std::string> words = flag.words();
  SHOAL_CHECK(words.size() == values.size(), name, " has ", words.size(), " words");
  std::vector<std::pair<std::string, T>> choices;
  for (size_t i = 0; i < words.size(); ++i) choices.emplace_back(words[i], values[i]);
  return table.AddChoice<T>(std::string(name), field, std::move(choices), std::string(flag.help));
}

// A row for a flag that this program only checks and passes on.
void PassGroupFlag(OptionTable& table, std::string_view name);

// All group flags of a table that was parsed, with their values: {"--threads", "2", ...}.
std::vector<std::string> GroupArguments(const OptionTable& table);

}  // namespace shoal::config
