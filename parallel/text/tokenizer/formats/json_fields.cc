#include "parallel/text/tokenizer/formats/json_fields.h"

#include <nlohmann/json.hpp>

#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "transport/base/error.h"

namespace shoal::text {

using nlohmann::json;

void RefuseJson(const std::string& where, const std::string& found, const std::string& expected) {
  Throw(ErrorCode::kInvalidArgument, "tokenizer.json: ", where, ": found ", found, ", expected ",
        expected, "; this tokenizer is not supported");
}

// The member, or null where it is absent or null.
const json* JsonFind(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

bool JsonBool(const json& object, const char* key, bool otherwise) {
  const json* value = JsonFind(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) RefuseJson(key, value->type_name(), "a bool");
  return value->get<bool>();
}

const std::string& JsonString(const json& object, const char* key) {
  const json* value = JsonFind(object, key);
  if (value == nullptr || !value->is_string()) {
    RefuseJson(key, value == nullptr ? "nothing" : value->type_name(), "a string");
  }
  return value->get_ref<const std::string&>();
}

int32_t JsonId(const json& value, const std::string& where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() >= kVocabSizeMax) {
    RefuseJson(where, value.is_number() ? value.dump() : value.type_name(),
               Str("an id below ", kVocabSizeMax));
  }
  return value.get<int32_t>();
}

const json& JsonList(const json& object, const char* key) {
  const json* list = JsonFind(object, key);
  if (list == nullptr || !list->is_array()) {
    RefuseJson(key, list == nullptr ? "nothing" : list->type_name(), "an array");
  }
  return *list;
}

}  // namespace shoal::text
