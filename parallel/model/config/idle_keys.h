#pragma once

// Keys of a model's files that nothing reads: which values of them change no answer, and why.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

namespace shoal::model {

struct IdleKey {
  std::string_view key;
  // The values that ask for nothing, as a JSON list; empty: any value does. Null always does.
  std::string_view neutral;
  std::string_view why;
};

// Errors: kInvalidArgument for a key of the table that `object` has with another value, with the
// value found, those supported, and why others are not.
void CheckIdleKeys(const nlohmann::json& object, std::span<const IdleKey> keys,
                   const std::string& where);

// Null if the table has no such key.
const IdleKey* FindIdleKey(std::span<const IdleKey> keys, std::string_view key);

}  // namespace shoal::model
