#pragma once

// Reads the nested YAML files that say how a region is to treat requests: each value by its name,
// its kind and its range, and every error by file, line and key.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "transport/config/options.h"

namespace YAML {
class Node;
}  // namespace YAML

namespace shoal::config {

constexpr size_t kYamlBytesMax = size_t{64} << 20;

// A map of a YAML file. Names that nobody has asked for by Finish are errors. So are bytes that are
// no UTF-8, more than kYamlBytesMax of them, a second document, anchors and aliases, which may make
// a small file a huge one, and tags.
// Errors of all: kInvalidArgument, "FILE, line N: KEY: expected ..., found ...".
class YamlMap {
 public:
  // The whole file, which must be a map.
  static YamlMap ReadFile(const std::string& path);
  // For tests: `name` stands for the file's.
  static YamlMap ReadText(const std::string& text, const std::string& name);

  YamlMap(YamlMap&&) noexcept;
  YamlMap& operator=(YamlMap&&) noexcept;
  ~YamlMap();

  bool Has(std::string_view key);
  // If the key is missing: what is given. Durations have a unit: "250ms", "60s", "10m" or
  // "2h"; or are 0.
  std::string Text(std::string_view key, const std::string& missing);
  int64_t Int(std::string_view key, int64_t missing, IntRange range);
  double Double(std::string_view key, double missing, DoubleRange range);
  bool Bool(std::string_view key, bool missing);
  int64_t DurationMs(std::string_view key, int64_t missing, IntRange range);
  // Which of `words` it is; -1 if the key is missing.
  int Choice(std::string_view key, const std::vector<std::string>& words);
  // Of a list of scalars, or of one; empty if the key is missing.
  std::vector<std::string> Texts(std::string_view key);
  // Of a list of maps; empty if the key is missing.
  std::vector<YamlMap> Maps(std::string_view key);
  // Of a map; an empty one if the key is missing.
  YamlMap Map(std::string_view key);
  // The names that it has, in the file's order.
  std::vector<std::string> Keys() const;

  // Refuses names that were not asked for, naming the nearest one that was.
  void Finish() const;
  int32_t line() const;
  int32_t LineOf(std::string_view key) const;
  // What is wrong with the value of `key`.
  [[noreturn]] void Fail(std::string_view key, const std::string& what) const;

 private:
  YamlMap(std::string file, std::unique_ptr<YAML::Node> node);
  const YAML::Node* Find(std::string_view key) const;
  const YAML::Node* Ask(std::string_view key);
  // Null if it is missing.
  std::unique_ptr<std::string> Scalar(std::string_view key, std::string_view expected);

  std::string file_;
  std::unique_ptr<YAML::Node> node_;
  std::vector<std::pair<std::string, std::unique_ptr<YAML::Node>>> values_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace shoal::config
