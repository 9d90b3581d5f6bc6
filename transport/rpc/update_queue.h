#pragma once

// Updates of sequences, on their way into messages of a bounded size.

#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "transport/base/generation/generation.h"

namespace shoal::rpc {

// About what one message of updates takes. Packing and reading it takes a millisecond, so neither
// end's event loop is held for longer, however long a prompt or an answer is.
constexpr size_t kUpdateBytesMax = 256 * 1024;

// Order:     what a sequence says comes out as it went in: its prompt's log-probabilities, then its
//            tokens, and its end with the last of them. Sequences take turns, so that one with a
//            lot to say holds nobody else's tokens up for longer than a message.
// Threading: thread-compatible.
class UpdateQueue {
 public:
  // Goes on from what waits of the same sequence, which must not have ended.
  void Add(SequenceUpdate update);

  // The next message's, one for each sequence; together about `bytes_max`. None if none waits.
  std::vector<SequenceUpdate> Take(size_t bytes_max);

  bool empty() const { return waiting_.empty(); }
  size_t bytes() const { return bytes_; }  // As messages: about what all of it takes.

 private:
  struct Waiting {
    SequenceUpdate update;
    size_t prompt_taken = 0;  // Of update.prompt_logprobs.
    size_t tokens_taken = 0;  // Of update.tokens.
  };

  // Takes at least one token or position. Result: whether nothing is left.
  static bool TakePart(Waiting& from, size_t bytes_max, SequenceUpdate& part);

  std::list<Waiting> waiting_;  // In the order of their turns.
  std::unordered_map<uint64_t, std::list<Waiting>::iterator> by_id_;
  size_t bytes_ = 0;
};

}  // namespace shoal::rpc
