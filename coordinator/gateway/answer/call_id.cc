#include "coordinator/gateway/answer/call_id.h"

#include "coordinator/gateway/resume/request_digest.h"
#include "transport/base/error.h"

namespace shoal::gateway {

std::string CallId(std::string_view answer_id, int64_t choice, int32_t call, bool is_short) {
  constexpr size_t kShort = 9;
  constexpr size_t kBytes = 12;
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  constexpr std::string_view kHex = "0123456789abcdef";
  const Digest digest = DigestText(Str(answer_id, "\n", choice, "\n", call));
  std::string id;
  if (is_short) {
    for (size_t i = 0; i < kShort; ++i) id += kLetters[digest[i] % kLetters.size()];
    return id;
  }
  id = "call_";
  for (size_t i = 0; i < kBytes; ++i) {
    id += kHex[digest[i] >> 4];
    id += kHex[digest[i] & 15];
  }
  return id;
}

}  // namespace shoal::gateway
