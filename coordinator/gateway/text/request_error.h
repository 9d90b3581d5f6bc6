#pragma once

// What is wrong with a request, before the API that it came by puts it into its own form.

#include <cstdint>
#include <string>

#include "transport/base/error.h"

namespace shoal::gateway {

class RequestError : public Error {
 public:
  enum class Kind : uint8_t {
    kInvalid,
    kUnknownModel,     // No model of that name is served.
    kInvalidGrammar,   // What the answer must match cannot be compiled.
    kNoTokenizer,      // The model has none that can be used, and the request needs it.
    kNoChatTemplate,   // Likewise.
    kContextExceeded,  // The prompt leaves the context no room.
    kCacheExceeded,    // Prompt and answer are more than any group's KV cache.
  };

  // `field`: as the API spells it, "prompt[1]"; empty if none is to blame.
  RequestError(Kind kind, std::string field, const std::string& message)
      : Error(ErrorCode::kInvalidArgument, message), kind(kind), field(std::move(field)) {}

  Kind kind;
  std::string field;
  int64_t prompt_tokens = -1;  // With kContextExceeded.
  int64_t context_tokens = -1;
};

}  // namespace shoal::gateway
