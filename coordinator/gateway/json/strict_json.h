#pragma once

// The one way in for JSON from outside.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace shoal::gateway {

constexpr int kJsonDepthMax = 64;
constexpr int kJsonMembersMax = 4096;  // Of one object: looking for a member goes through all.

// Result: the value, members in their order. Errors: kInvalidArgument, naming line, column and path
// (messages[0].content), for anything that is not one JSON value in well-formed UTF-8, a duplicate
// key, nesting deeper than kJsonDepthMax, an object of more than kJsonMembersMax members or a
// number beyond binary64. Cost: linear.
nlohmann::ordered_json ParseStrictJson(std::string_view text);

}  // namespace shoal::gateway
