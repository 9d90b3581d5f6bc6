#pragma once

// Typed access to the fields of a request's object; it remembers which were asked for.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace shoal::gateway {

// A null value counts as absent. Errors: ApiError with the field's path, the type or range expected
// and the one found.
class JsonReader {
 public:
  using Json = nlohmann::ordered_json;

  // `path`: of the object itself, empty at the top. Throws if `value` is no object.
  JsonReader(const Json& value, std::string path);

  // Null if absent.
  const Json* Find(std::string_view name);
  std::optional<std::string> String(std::string_view name);
  std::optional<bool> Bool(std::string_view name);
  // 8.0 is one too; beyond 2^53 only without a fraction or exponent, or it could be another one.
  std::optional<int64_t> Int(std::string_view name, int64_t min, int64_t max);
  std::optional<double> Number(std::string_view name, double min, double max);

  // "messages[0].content"
  std::string Path(std::string_view name) const;
  // The names that were never asked for.
  std::vector<std::string> Unread() const;

 private:
  const Json& value_;
  const std::string path_;
  std::set<std::string, std::less<>> read_;
};

// "a string", "an array", ...
std::string_view TypeName(const nlohmann::ordered_json& value);

[[noreturn]] void ThrowWrongType(const std::string& path, std::string_view expected,
                                 const nlohmann::ordered_json& found);

// An int32 token id of an array. `path`: of the element.
int32_t ReadTokenId(const nlohmann::ordered_json& value, const std::string& path);

}  // namespace shoal::gateway
