// A configuration file is a flat map of scalars, so that every key is a flag and nothing hides in a
// section that a program does not read.

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>

#include "transport/base/error.h"
#include "transport/config/options.h"

namespace shoal::config {
namespace {

int64_t LineOf(const YAML::Mark& mark) { return mark.line + 1; }

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file || !text) {
    Throw(ErrorCode::kInvalidArgument, path, ": the configuration file cannot be read");
  }
  return text.str();
}

}  // namespace

std::vector<YamlEntry> ReadYamlFile(const std::string& path) {
  const std::string text = ReadText(path);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {  // Turned into our one kind of bad input.
    Throw(ErrorCode::kInvalidArgument, path, ", line ", LineOf(error.mark), ": ", error.msg);
  }
  std::vector<YamlEntry> entries;
  if (root.IsNull()) return entries;
  if (!root.IsMap()) {
    Throw(ErrorCode::kInvalidArgument, path, ", line ", LineOf(root.Mark()),
          ": expected lines of 'key: value'");
  }
  std::set<std::string> seen;
  for (const auto& pair : root) {
    const YAML::Node& key = pair.first;
    const YAML::Node& value = pair.second;
    const int64_t line = LineOf(key.Mark());
    if (!key.IsScalar()) {
      Throw(ErrorCode::kInvalidArgument, path, ", line ", line, ": expected a key that is a word");
    }
    const std::string name = key.Scalar();
    if (!value.IsScalar()) {
      Throw(ErrorCode::kInvalidArgument, path, ", line ", line, ": ", name,
            ": expected one value, found ",
            value.IsNull() ? "none" : (value.IsMap() ? "a section" : "a list"));
    }
    if (!seen.insert(name).second) {
      Throw(ErrorCode::kInvalidArgument, path, ", line ", line, ": ", name,
            " is there a second time");
    }
    // yaml-cpp tags a scalar "!" if it was quoted, "?" if it was plain.
    entries.push_back(
        {.key = name, .value = value.Scalar(), .quoted = value.Tag() == "!", .line = line});
  }
  return entries;
}

}  // namespace shoal::config
