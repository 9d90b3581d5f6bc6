#include "coordinator/gateway/json/strict_json.h"

// Builds the value itself from nlohmann's events: its own builder keeps the last of two equal keys
// silently and has no depth limit.

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kReasonBytesMax = 160;

class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view text) : text_(text) {}

  Json& value() { return root_; }

  bool null() override { return Add(Json(nullptr)); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(number_integer_t value) override { return Add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(Json(value)); }
  bool number_float(number_float_t value, const string_t& /*text*/) override {
    return Add(Json(value));
  }
  bool string(string_t& value) override { return Add(Json(std::move(value))); }
  bool binary(binary_t& /*value*/) override { return false; }  // Not part of JSON text.
  bool start_object(size_t /*size*/) override { return Open(Json::object()); }
  bool start_array(size_t /*size*/) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& value) override {
    Level& level = levels_.back();
    level.key = value;
    if (!level.keys.insert(value).second) {
      Throw(ErrorCode::kInvalidArgument, "not what is read here: a key comes twice, at ", Path());
    }
    if (level.keys.size() > kJsonMembersMax) {
      Throw(ErrorCode::kInvalidArgument, "not what is read here: it has more than ",
            kJsonMembersMax, " members at ", Path());
    }
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i + 1 < position && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n' ? 1 : 0;
    }
    std::string reason = error.what();
    const size_t dash = reason.rfind(" - ");  // Only in syntax errors: what was wrong.
    const size_t bracket = reason.find("] ");
    if (dash != std::string::npos) {
      reason.erase(0, dash + 3);
    } else if (bracket != std::string::npos) {
      reason.erase(0, bracket + 2);
    }
    // What it quotes of the input may be long.
    const size_t quote = reason.find("; last read");
    reason = reason.substr(0, std::min(quote, kReasonBytesMax));
    Throw(ErrorCode::kInvalidArgument, "not valid JSON at line ", line, ", column ", column,
          levels_.empty() ? "" : Str(" (in ", Path(), ")"), ": ", reason);
  }

 private:
  struct Level {
    Json* container;
    std::unordered_set<std::string> keys;
    std::string key;
  };

  Json* Place(Json&& value) {
    if (levels_.empty()) return &(root_ = std::move(value));
    Level& level = levels_.back();
    if (level.container->is_array()) return &level.container->emplace_back(std::move(value));
    // Appended to the vector underneath: the map's own insertion searches it from the start.
    auto& members = level.container->get_ref<Json::object_t&>();
    static_cast<Json::object_t::Container&>(members).emplace_back(level.key, std::move(value));
    return &members.back().second;
  }

  bool Add(Json&& value) {
    Place(std::move(value));
    return true;
  }

  bool Open(Json&& value) {
    if (levels_.size() >= kJsonDepthMax) {
      Throw(ErrorCode::kInvalidArgument, "JSON nested deeper than ", kJsonDepthMax, " at ", Path());
    }
    Json* container = Place(std::move(value));
    levels_.push_back({container, {}, {}});
    return true;
  }

  bool Close() {
    levels_.pop_back();
    return true;
  }

  std::string Path() const {
    std::string path;
    for (const Level& level : levels_) {
      if (level.container->is_array()) {
        path += Str("[", level.container->empty() ? 0 : level.container->size() - 1, "]");
      } else if (!level.key.empty()) {
        path += (path.empty() ? "" : ".") + level.key.substr(0, kReasonBytesMax);
      }
      if (path.size() > 2 * kReasonBytesMax) return path.substr(0, 2 * kReasonBytesMax) + "...";
    }
    return path.empty() ? "the top level" : path;
  }

  const std::string_view text_;
  Json root_;
  std::vector<Level> levels_;
};

}  // namespace

Json ParseStrictJson(std::string_view text) {
  Builder builder(text);
  const bool complete =
      Json::sax_parse(text.begin(), text.end(), &builder, nlohmann::json::input_format_t::json,
                      /*strict=*/true);
  SHOAL_CHECK(complete, "a JSON event was refused without an error");
  return std::move(builder.value());
}

}  // namespace shoal::gateway
