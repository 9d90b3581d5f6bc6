#include "parallel/model/config/idle_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "parallel/model/files/refuse.h"

namespace shoal::model {

using nlohmann::json;

void CheckIdleKeys(const json& object, std::span<const IdleKey> keys, const std::string& where) {
  for (const IdleKey& idle : keys) {
    const auto found = object.find(idle.key);
    if (idle.neutral.empty() || found == object.end() || found->is_null()) continue;
    const json neutral = json::parse(idle.neutral);
    if (std::find(neutral.begin(), neutral.end(), *found) != neutral.end()) continue;
    std::string supported;
    for (const json& value : neutral) supported += (supported.empty() ? "" : " or ") + value.dump();
    Refuse(where, Quoted(idle.key), " is ",
           Quoted(found->dump(-1, ' ', true, json::error_handler_t::replace)),
           ", supported is only ", supported, " (", idle.why, "): take another model");
  }
}

const IdleKey* FindIdleKey(std::span<const IdleKey> keys, std::string_view key) {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const IdleKey& idle) { return idle.key == key; });
  return found == keys.end() ? nullptr : &*found;
}

}  // namespace shoal::model
