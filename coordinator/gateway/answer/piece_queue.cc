#include "coordinator/gateway/answer/piece_queue.h"

namespace shoal::gateway {

void PieceQueue::Push(size_t choice, AnswerPiece piece) {
  std::deque<AnswerPiece>& pieces = by_choice_[choice];
  if (pieces.empty()) turns_.push_back(choice);
  const size_t bytes = piece.json_bytes();
  json_bytes_ += bytes;
  if (!pieces.empty() && pieces.back().json_bytes() + bytes <= kPieceBytes) {
    pieces.back().Append(std::move(piece));
  } else {
    pieces.push_back(std::move(piece));
  }
}

std::pair<size_t, AnswerPiece> PieceQueue::Pop() {
  const size_t choice = turns_.front();
  turns_.pop_front();
  std::deque<AnswerPiece>& pieces = by_choice_[choice];
  AnswerPiece piece = std::move(pieces.front());
  pieces.pop_front();
  if (!pieces.empty()) turns_.push_back(choice);
  json_bytes_ -= piece.json_bytes();
  return {choice, std::move(piece)};
}

std::vector<std::deque<AnswerPiece>> PieceQueue::TakeAll() {
  std::vector<std::deque<AnswerPiece>> all(by_choice_.size());
  all.swap(by_choice_);
  turns_.clear();
  json_bytes_ = 0;
  return all;
}

}  // namespace shoal::gateway
