#pragma once

// Streams that one leader held, on their way to a coordinator in messages of a bounded size.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "transport/base/generation/sequence_request.h"
#include "transport/rpc/update_queue.h"

namespace shoal::rpc {

// Order:     streams come out as they went in. A long one comes in parts: the first carries the
//            request, the others only its id and what follows in `all`, as its tokens_before and
//            prompt_logprobs_before say.
// Threading: thread-compatible.
class HandOverQueue {
 public:
  void Add(HeldStream held) { waiting_.push_back(std::move(held)); }

  // The next message's, together about `bytes_max`; a request is never cut. None if none waits.
  std::vector<HeldStream> Take(size_t bytes_max);

  bool empty() const { return waiting_.empty() && rest_.empty(); }

 private:
  std::deque<HeldStream> waiting_;
  UpdateQueue rest_;  // Of the stream whose first part was taken.
};

}  // namespace shoal::rpc
