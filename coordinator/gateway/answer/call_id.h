#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::gateway {

// What a call of a tool is known by: of the answer's id, its choice, and its place there. So it is
// the same where the answer is generated anew. "call_" and 24 hex digits; `is_short`: nine letters
// and digits, which is what Mistral's templates take.
std::string CallId(std::string_view answer_id, int64_t choice, int32_t call, bool is_short);

}  // namespace shoal::gateway
