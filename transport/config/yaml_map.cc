#include "transport/config/yaml_map.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <utility>

#include "transport/base/error.h"
#include "transport/base/host/small_file.h"
#include "transport/base/utf8.h"
#include "transport/config/duration.h"

namespace shoal::config {
namespace {

std::string KindOf(const YAML::Node& node) {
  if (node.IsMap()) return "a section";
  if (node.IsSequence()) return "a list";
  if (node.IsScalar()) return "'" + node.Scalar() + "'";
  return "nothing";
}

template <typename T>
bool ParseNumber(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// Errors: as YamlMap's.
void CheckUtf8(const std::string& text, const std::string& name) {
  if (IsWellFormedUtf8(text)) return;
  int64_t line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view found = std::string_view(text).substr(begin, end - begin);
    if (!IsWellFormedUtf8(found)) {
      Throw(ErrorCode::kInvalidArgument, name, ", line ", line, ": expected UTF-8, found '",
            ReplaceIllFormed(found.substr(0, 80)), "': save the file as UTF-8");
    }
    begin = end + 1;
  }
}

// `line`: from 0 on.
bool IsIndentedByTab(std::string_view text, int line) {
  for (; line > 0 && !text.empty(); --line) {
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return text.substr(0, text.find_first_not_of(" \t")).find('\t') != std::string_view::npos;
}

// Refuses what makes a value other than it looks.
class PlainOnly : public YAML::EventHandler {
 public:
  explicit PlainOnly(const std::string& name) : name_(name) {}

  // Of the document that began last.
  int64_t line() const { return line_; }

  void OnDocumentStart(const YAML::Mark& mark) override { line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Check(mark, "", anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Fail(mark, "an alias (*)"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string&) override {
    Check(mark, tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Check(mark, tag, anchor);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Check(mark, tag, anchor);
  }
  void OnMapEnd() override {}

 private:
  void Check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) Fail(mark, "an anchor (&)");
    // The others are what a plain and a quoted scalar have.
    if (!tag.empty() && tag != "?" && tag != "!") Fail(mark, Str("the tag '", tag, "'"));
  }
  [[noreturn]] void Fail(const YAML::Mark& mark, const std::string& found) const {
    Throw(ErrorCode::kInvalidArgument, name_, ", line ", mark.line + 1,
          ": expected each value written out where it stands, found ", found);
  }

  const std::string& name_;
  int64_t line_ = 0;
};

}  // namespace

YamlMap YamlMap::ReadFile(const std::string& path) {
  return ReadText(ReadSmallFile(path, kYamlBytesMax), path);
}

YamlMap YamlMap::ReadText(const std::string& text, const std::string& name) {
  CheckUtf8(text, name);
  YAML::Node root;
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    PlainOnly plain(name);
    parser.HandleNextDocument(plain);
    if (parser.HandleNextDocument(plain)) {
      Throw(ErrorCode::kInvalidArgument, name, ", line ", plain.line(),
            ": expected one document, found another one after '---'");
    }
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {  // Turned into our one kind of bad input.
    Throw(ErrorCode::kInvalidArgument, name, ", line ", error.mark.line + 1, ": ", error.msg,
          IsIndentedByTab(text, error.mark.line) ? ": expected spaces before it, found a tab" : "");
  }
  if (root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap()) {
    Throw(ErrorCode::kInvalidArgument, name, ", line ", root.Mark().line + 1,
          ": expected lines of 'key: value', found ", KindOf(root));
  }
  return {name, std::make_unique<YAML::Node>(root)};
}

YamlMap::YamlMap(std::string file, std::unique_ptr<YAML::Node> node)
    : file_(std::move(file)), node_(std::move(node)) {
  for (const auto& pair : *node_) {
    const int line = pair.first.Mark().line + 1;
    if (!pair.first.IsScalar()) {
      Throw(ErrorCode::kInvalidArgument, file_, ", line ", line, ": expected a key that is a word");
    }
    if (Find(pair.first.Scalar()) != nullptr) {
      Throw(ErrorCode::kInvalidArgument, file_, ", line ", line, ": ", pair.first.Scalar(),
            " is there a second time");
    }
    values_.emplace_back(pair.first.Scalar(), std::make_unique<YAML::Node>(pair.second));
  }
}

YamlMap::YamlMap(YamlMap&&) noexcept = default;
YamlMap& YamlMap::operator=(YamlMap&&) noexcept = default;
YamlMap::~YamlMap() = default;

const YAML::Node* YamlMap::Find(std::string_view key) const {
  const auto found = std::ranges::find(
      values_, key, [](const auto& pair) { return std::string_view(pair.first); });
  return found == values_.end() ? nullptr : found->second.get();
}

const YAML::Node* YamlMap::Ask(std::string_view key) {
  asked_.emplace(key);
  return Find(key);
}

bool YamlMap::Has(std::string_view key) { return Ask(key) != nullptr; }

int32_t YamlMap::line() const { return std::max(0, node_->Mark().line) + 1; }

int32_t YamlMap::LineOf(std::string_view key) const {
  const YAML::Node* value = Find(key);
  return value == nullptr ? line() : value->Mark().line + 1;
}

void YamlMap::Fail(std::string_view key, const std::string& what) const {
  Throw(ErrorCode::kInvalidArgument, file_, ", line ", LineOf(key), ": ", key, ": ", what);
}

std::unique_ptr<std::string> YamlMap::Scalar(std::string_view key, std::string_view expected) {
  const YAML::Node* value = Ask(key);
  if (value == nullptr) return nullptr;
  if (!value->IsScalar()) Fail(key, Str("expected ", expected, ", found ", KindOf(*value)));
  return std::make_unique<std::string>(value->Scalar());
}

std::string YamlMap::Text(std::string_view key, const std::string& missing) {
  const auto text = Scalar(key, "a text");
  return text ? *text : missing;
}

int64_t YamlMap::Int(std::string_view key, int64_t missing, IntRange range) {
  const std::string expected = Str("an integer from ", range.lowest, " to ", range.highest);
  const auto text = Scalar(key, expected);
  if (!text) return missing;
  int64_t value = 0;
  if (!ParseNumber(*text, value) || value < range.lowest || value > range.highest) {
    Fail(key, Str("expected ", expected, ", found '", *text, "'"));
  }
  return value;
}

double YamlMap::Double(std::string_view key, double missing, DoubleRange range) {
  const std::string expected = Str("a number from ", range.lowest, " to ", range.highest);
  const auto text = Scalar(key, expected);
  if (!text) return missing;
  double value = 0;
  if (!ParseNumber(*text, value) || !(value >= range.lowest && value <= range.highest)) {
    Fail(key, Str("expected ", expected, ", found '", *text, "'"));
  }
  return value;
}

bool YamlMap::Bool(std::string_view key, bool missing) {
  const auto text = Scalar(key, "true or false");
  if (!text) return missing;
  if (*text != "true" && *text != "false") {
    Fail(key, Str("expected true or false, found '", *text, "'"));
  }
  return *text == "true";
}

int64_t YamlMap::DurationMs(std::string_view key, int64_t missing, IntRange range) {
  const std::string expected = Str("a duration such as 250ms, 60s, 10m or 2h, of ", range.lowest,
                                   " to ", range.highest, " ms");
  const auto text = Scalar(key, expected);
  if (!text) return missing;
  const auto value = ParseDurationMs(*text);
  if (!value || *value < range.lowest || *value > range.highest) {
    Fail(key, Str("expected ", expected, ", found '", *text, "'"));
  }
  return *value;
}

int YamlMap::Choice(std::string_view key, const std::vector<std::string>& words) {
  const auto text = Scalar(key, "a word");
  if (!text) return -1;
  const auto found = std::ranges::find(words, *text);
  if (found != words.end()) return static_cast<int>(found - words.begin());
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  Fail(key, Str("expected one of ", list, ", found '", *text, "'", Suggestion(*text, words)));
}

std::vector<std::string> YamlMap::Texts(std::string_view key) {
  const YAML::Node* value = Ask(key);
  if (value == nullptr) return {};
  if (value->IsScalar()) return {value->Scalar()};
  if (!value->IsSequence()) Fail(key, Str("expected a list of texts, found ", KindOf(*value)));
  std::vector<std::string> texts;
  for (const YAML::Node& element : *value) {
    if (!element.IsScalar()) Fail(key, Str("expected texts in the list, found ", KindOf(element)));
    texts.push_back(element.Scalar());
  }
  return texts;
}

std::vector<YamlMap> YamlMap::Maps(std::string_view key) {
  const YAML::Node* value = Ask(key);
  std::vector<YamlMap> maps;
  if (value == nullptr || value->IsNull()) return maps;
  if (!value->IsSequence()) Fail(key, Str("expected a list of sections, found ", KindOf(*value)));
  for (const YAML::Node& element : *value) {
    if (!element.IsMap()) {
      Throw(ErrorCode::kInvalidArgument, file_, ", line ", element.Mark().line + 1, ": ", key,
            ": expected a section in the list, found ", KindOf(element));
    }
    maps.push_back(YamlMap(file_, std::make_unique<YAML::Node>(element)));
  }
  return maps;
}

YamlMap YamlMap::Map(std::string_view key) {
  const YAML::Node* value = Ask(key);
  if (value == nullptr || value->IsNull()) {
    return {file_, std::make_unique<YAML::Node>(YAML::NodeType::Map)};
  }
  if (!value->IsMap()) Fail(key, Str("expected a section, found ", KindOf(*value)));
  return {file_, std::make_unique<YAML::Node>(*value)};
}

std::vector<std::string> YamlMap::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

void YamlMap::Finish() const {
  const std::vector<std::string> known(asked_.begin(), asked_.end());
  for (const auto& [key, value] : values_) {
    if (!asked_.contains(key)) {
      Fail(key, Str("no such key here", Suggestion(key, known)));
    }
  }
}

}  // namespace shoal::config
