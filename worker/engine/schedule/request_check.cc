// The coordinator has checked all of this and says it in words for users. The rank checks again,
// because other programs may speak the protocol, so that the engine may treat a bad parameter as a
// bug.

#include "worker/engine/schedule/request_check.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "transport/base/error.h"

namespace shoal::engine {

namespace {

void CheckTokens(std::span<const int32_t> tokens, std::string_view of, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    Throw(ErrorCode::kInvalidArgument, of, " token ", i, " is ", tokens[i],
          ": expected an id from 0 to ", vocab_size - 1);
  }
}

}  // namespace

void CheckRequest(const SequenceRequest& request, int64_t vocab_size) {
  if (request.prompt.empty()) {
    Throw(ErrorCode::kInvalidArgument, "the prompt has no tokens: expected at least one");
  }
  CheckTokens(request.prompt, "prompt", vocab_size);
  CheckTokens(request.generated, "generated", vocab_size);
  CheckParams(request.params);
  CheckTokenIds(request.params, vocab_size);
  const std::vector<int32_t>& stops = request.params.stop_ids;
  const auto stop = std::find_first_of(request.generated.begin(), request.generated.end(),
                                       stops.begin(), stops.end());
  if (stop != request.generated.end()) {
    Throw(ErrorCode::kInvalidArgument, "generated token ", stop - request.generated.begin(), " is ",
          *stop, ", a stop id: the answer has ended, and cannot go on");
  }
  const auto generated = static_cast<int64_t>(request.generated.size());
  if (generated > 0 && generated >= request.params.tokens_max) {
    Throw(ErrorCode::kInvalidArgument, "the answer has ", generated, " tokens already, tokens_max ",
          request.params.tokens_max, " were asked for: expected fewer");
  }
}

}  // namespace shoal::engine
