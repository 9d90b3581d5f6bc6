// The coordinator has checked all of this and says it in words for users. The rank checks again,
// because other programs may speak the protocol, so that the engine may treat a bad parameter as a
// bug.

#include "worker/engine/schedule/request_check.h"

#include "transport/base/error.h"

namespace shoal::engine {

void CheckRequest(std::span<const int32_t> prompt, const GenerationParams& params,
                  int64_t vocab_size) {
  if (prompt.empty()) {
    Throw(ErrorCode::kInvalidArgument, "the prompt has no tokens: expected at least one");
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] >= 0 && prompt[i] < vocab_size) continue;
    Throw(ErrorCode::kInvalidArgument, "prompt token ", i, " is ", prompt[i],
          ": expected an id from 0 to ", vocab_size - 1);
  }
  CheckParams(params);
  CheckTokenIds(params, vocab_size);
}

}  // namespace shoal::engine
