#pragma once

// Reading of tokenizer.json, whose parts are either understood or refused by name.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shoal::text {

// Errors of all: kInvalidArgument, naming the place, what it holds and what was expected.

[[noreturn]] void RefuseJson(const std::string& where, const std::string& found,
                             const std::string& expected);

// The member, or null where it is absent or null.
const nlohmann::json* JsonFind(const nlohmann::json& object, const char* key);
bool JsonBool(const nlohmann::json& object, const char* key, bool otherwise);
const std::string& JsonString(const nlohmann::json& object, const char* key);
// The list under a key of `object`.
const nlohmann::json& JsonList(const nlohmann::json& object, const char* key);
// `value` as a token's id.
int32_t JsonId(const nlohmann::json& value, const std::string& where);

}  // namespace shoal::text
