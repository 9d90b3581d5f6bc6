#include "parallel/model/config/json_fields.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "parallel/model/files/refuse.h"

// Strict reading of JSON that comes with a model.

namespace shoal::model {

using nlohmann::json;

namespace {

// A negative integer is not unsigned to the parser; GGUF has signed types that hold positive ones.
bool IsCount(const json& value) {
  constexpr uint64_t kCountEnd = uint64_t{1} << 31;
  return (value.is_number_unsigned() && value.get<uint64_t>() < kCountEnd) ||
         (value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() >= 0 &&
          value.get<int64_t>() < static_cast<int64_t>(kCountEnd));
}

}  // namespace

std::string Quoted(std::string_view text) {
  constexpr size_t kLengthMax = 80;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kLengthMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      out += c;
    } else {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out + (text.size() > kLengthMax ? "...\"" : "\"");
}

json ParseJsonObject(std::string_view text, const std::string& where) {
  std::vector<std::unordered_set<std::string>> open_objects;
  const json::parser_callback_t refuse_duplicates = [&](int, json::parse_event_t event,
                                                        json& parsed) {
    if (event == json::parse_event_t::object_start) {
      open_objects.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      open_objects.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_objects.back().insert(key).second) {
        Refuse(where, "the key ", Quoted(key), " stands twice in one object: remove one of them");
      }
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text, refuse_duplicates);
  } catch (const json::exception& error) {
    // The library's own exceptions stop here; ours passes through.
    Refuse(where, "expected JSON: ", error.what(), ". Fetch the file again");
  }
  if (!object.is_object()) {
    Refuse(where, "expected a JSON object, found ", object.type_name(), ": fetch the file again");
  }
  return object;
}

const json* JsonFields::Find(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::Missing(const std::string& key) const {
  Refuse(where_, "the key ", Quoted(key),
         " is missing: take a complete model, or convert this one again");
}

void JsonFields::WrongType(const std::string& key, std::string_view expected,
                           const json& found) const {
  const std::string value = found.is_structured()
                                ? std::string("an ") + found.type_name()
                                : found.dump(-1, ' ', true, json::error_handler_t::replace);
  Refuse(where_, "the key ", Quoted(key), " must be ", expected, ", found ", Quoted(value),
         ": correct it, or convert the model again");
}

std::optional<int64_t> JsonFields::TryCount(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!IsCount(*value)) {
    WrongType(key, "an integer from 0 to 2147483647", *value);
  }
  return value->get<int64_t>();
}

std::vector<int64_t> JsonFields::Counts(const std::string& key, int64_t of) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_array()) return {Count(key)};
  std::vector<int64_t> counts;
  for (const json& item : *value) {
    if (!IsCount(item)) {
      WrongType(Str(key, "[", counts.size(), "]"), "an integer from 0 to 2147483647", item);
    }
    counts.push_back(item.get<int64_t>());
  }
  if (static_cast<int64_t>(counts.size()) != of) {
    Refuse(where_, "the key ", Quoted(key), " is an array of ", counts.size(),
           ", expected one integer or an array of ", of,
           ": correct it, or convert the model again");
  }
  const bool alike = std::all_of(counts.begin(), counts.end(),
                                 [&](int64_t count) { return count == counts.front(); });
  if (alike && !counts.empty()) counts.resize(1);
  return counts;
}

std::optional<double> JsonFields::TryNumber(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    WrongType(key, "a finite number", *value);
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::TryBool(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    WrongType(key, "true or false", *value);
  }
  return value->get<bool>();
}

std::optional<std::string> JsonFields::TryString(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    WrongType(key, "a string", *value);
  }
  return value->get<std::string>();
}

const json* JsonFields::TryObject(const std::string& key) const {
  const json* value = Find(key);
  if (value != nullptr && !value->is_object()) {
    WrongType(key, "an object", *value);
  }
  return value;
}

int64_t JsonFields::Count(const std::string& key) const {
  const std::optional<int64_t> value = TryCount(key);
  if (!value) {
    Missing(key);
  }
  return *value;
}

double JsonFields::Number(const std::string& key) const {
  const std::optional<double> value = TryNumber(key);
  if (!value) {
    Missing(key);
  }
  return *value;
}

}  // namespace shoal::model
