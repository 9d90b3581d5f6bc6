#pragma once

// What has come of an answer's choices and is not written yet.

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "coordinator/gateway/answer/answer_piece.h"

namespace shoal::gateway {

// Order:     pieces of one choice as they came; choices that have some take turns.
// Threading: thread-compatible.
class PieceQueue {
 public:
  explicit PieceQueue(size_t choice_count) : by_choice_(choice_count) {}

  // Joined with the choice's last piece that waits, while that is a small one.
  void Push(size_t choice, AnswerPiece piece);

  // The next choice, and its first piece. Precondition: not empty().
  std::pair<size_t, AnswerPiece> Pop();

  // Everything, by choice.
  std::vector<std::deque<AnswerPiece>> TakeAll();

  bool empty() const { return turns_.empty(); }
  size_t json_bytes() const { return json_bytes_; }  // About, of everything.

 private:
  std::vector<std::deque<AnswerPiece>> by_choice_;
  std::deque<size_t> turns_;  // Choices that have pieces.
  size_t json_bytes_ = 0;
};

}  // namespace shoal::gateway
