#pragma once

// Values out of untrusted JSON objects, with messages that say which key of which file is wrong.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::model {

// The object that `text` holds. Errors: kInvalidArgument if it is not JSON, not an object, or an
// object in it has a key twice (readers disagree on which one counts).
nlohmann::json ParseJsonObject(std::string_view text, const std::string& where);

// Typed access to an object's values; null counts as absent. Borrows both arguments.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, const std::string& where)
      : object_(object), where_(where) {}

  bool Has(const std::string& key) const { return Find(key) != nullptr; }

  // Errors: kInvalidArgument if the key is there with a value of another type (an integer outside
  // [0, 2^31) is one), and, where there is no `Try`, if it is absent.
  std::optional<int64_t> TryCount(const std::string& key) const;
  std::optional<double> TryNumber(const std::string& key) const;
  std::optional<bool> TryBool(const std::string& key) const;
  std::optional<std::string> TryString(const std::string& key) const;
  // An object within; nullptr if absent.
  const nlohmann::json* TryObject(const std::string& key) const;
  int64_t Count(const std::string& key) const;
  // A count for all of `of`, or an array with one for each. Result: one, if they are equal.
  std::vector<int64_t> Counts(const std::string& key, int64_t of) const;
  double Number(const std::string& key) const;

  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* Find(const std::string& key) const;
  [[noreturn]] void Missing(const std::string& key) const;
  [[noreturn]] void WrongType(const std::string& key, std::string_view expected,
                              const nlohmann::json& found) const;

  const nlohmann::json& object_;
  const std::string& where_;
};

}  // namespace shoal::model
