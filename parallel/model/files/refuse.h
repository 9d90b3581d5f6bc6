#pragma once

// How the readers of model files say no.

#include <string>
#include <string_view>

#include "transport/base/error.h"

namespace shoal::model {

// `text` from a file, fit for a message: in quotes, at most 80 characters, others than printable
// ASCII as \xHH.
std::string Quoted(std::string_view text);

// Throws kInvalidArgument with "WHERE: " and the other arguments streamed.
template <typename... Args>
[[noreturn]] void Refuse(const std::string& where, const Args&... args) {
  Throw(ErrorCode::kInvalidArgument, where, ": ", args...);
}

}  // namespace shoal::model
