#include "coordinator/gateway/json/json_reader.h"

// Every complaint about a field's type or range is worded here.

#include <cmath>
#include <nlohmann/json.hpp>

#include "coordinator/gateway/api/api_error.h"

namespace shoal::gateway {
namespace {

// Up to here every integer is a double of its own.
constexpr double kExactMax = 0x1p53;

// 8.0 and 1e3 are integers too.
bool IsInteger(const nlohmann::ordered_json& value) {
  if (!value.is_number_float()) return value.is_number_integer();
  return std::trunc(value.get<double>()) == value.get<double>();
}

// An integer's value; nothing if it is not known to the last digit or has more than 64 bits.
std::optional<int64_t> AsInt64(const nlohmann::ordered_json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > INT64_MAX) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  const auto number = value.get<double>();
  if (std::abs(number) > kExactMax) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

std::string_view TypeName(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return IsInteger(value) ? "an integer" : "a number with a fraction";
}

void ThrowWrongType(const std::string& path, std::string_view expected,
                    const nlohmann::ordered_json& found) {
  throw ApiError(path,
                 Str(path.empty() ? "the request body" : path, " must be ", expected, ", not ",
                     TypeName(found)),
                 "invalid_type");
}

int32_t ReadTokenId(const nlohmann::ordered_json& value, const std::string& path) {
  if (!IsInteger(value)) ThrowWrongType(path, "a token id", value);
  const std::optional<int64_t> id = AsInt64(value);
  if (!id || *id < 0 || *id > INT32_MAX) throw ApiError(path, path + " is not a token id");
  return static_cast<int32_t>(*id);
}

JsonReader::JsonReader(const Json& value, std::string path)
    : value_(value), path_(std::move(path)) {
  if (!value.is_object()) ThrowWrongType(path_, "an object", value);
}

std::string JsonReader::Path(std::string_view name) const {
  return path_.empty() ? std::string(name) : Str(path_, ".", name);
}

const JsonReader::Json* JsonReader::Find(std::string_view name) {
  read_.emplace(name);
  for (auto member = value_.begin(); member != value_.end(); ++member) {
    if (member.key() == name) return member.value().is_null() ? nullptr : &member.value();
  }
  return nullptr;
}

std::optional<std::string> JsonReader::String(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) ThrowWrongType(Path(name), "a string", *value);
  return value->get<std::string>();
}

std::optional<bool> JsonReader::Bool(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) ThrowWrongType(Path(name), "a boolean", *value);
  return value->get<bool>();
}

std::optional<int64_t> JsonReader::Int(std::string_view name, int64_t min, int64_t max) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!IsInteger(*value)) ThrowWrongType(Path(name), "an integer", *value);
  const std::optional<int64_t> number = AsInt64(*value);
  if (!number && value->is_number_float() && std::abs(value->get<double>()) < 0x1p63) {
    throw ApiError(Path(name),
                   Str(Path(name), " is ", value->dump(), ", which is not known to the ",
                       "last digit: write integers beyond 2^53 without point and ", "exponent"));
  }
  if (!number || *number < min || *number > max) {
    throw ApiError(Path(name),
                   Str(Path(name), " must be from ", min, " to ", max, ", not ", value->dump()));
  }
  return number;
}

std::optional<double> JsonReader::Number(std::string_view name, double min, double max) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) ThrowWrongType(Path(name), "a number", *value);
  const auto number = value->get<double>();
  if (!(number >= min && number <= max)) {
    throw ApiError(Path(name),
                   Str(Path(name), " must be from ", min, " to ", max, ", not ", value->dump()));
  }
  return number;
}

std::vector<std::string> JsonReader::Unread() const {
  std::vector<std::string> names;
  for (auto member = value_.begin(); member != value_.end(); ++member) {
    if (!read_.contains(member.key())) names.push_back(member.key());
  }
  return names;
}

}  // namespace shoal::gateway
