#include "transport/rpc/update_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace shoal::rpc {
namespace {

// Of an update beside its arrays: the struct, and its lists' headers.
constexpr size_t kUpdateHeadBytes = 128;

// All positions of a request have equally many alternatives; the first ones may be taken already.
size_t PositionBytes(const std::vector<TokenLogprobs>& logprobs) {
  if (logprobs.empty()) return 0;
  return sizeof(float) + logprobs.back().top.size() * (sizeof(int32_t) + sizeof(float));
}

size_t TokenBytes(const SequenceUpdate& update) {
  return sizeof(int32_t) + PositionBytes(update.logprobs);
}

size_t Bytes(const SequenceUpdate& update) {
  return kUpdateHeadBytes + update.detail.size() +
         update.prompt_logprobs.size() * PositionBytes(update.prompt_logprobs) +
         update.tokens.size() * TokenBytes(update);
}

// As far as `from` reaches.
template <typename T>
void MoveRange(std::vector<T>& from, size_t begin, size_t count, std::vector<T>& to) {
  begin = std::min(begin, from.size());
  count = std::min(count, from.size() - begin);
  const auto first = std::make_move_iterator(from.begin() + static_cast<ptrdiff_t>(begin));
  to.assign(first, first + static_cast<ptrdiff_t>(count));
}

template <typename T>
void Append(std::vector<T>& to, std::vector<T>&& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

}  // namespace

void UpdateQueue::Add(SequenceUpdate update) {
  const auto [entry, is_new] = by_id_.try_emplace(update.id);
  if (is_new) {
    bytes_ += Bytes(update);
    waiting_.push_back({std::move(update)});
    entry->second = std::prev(waiting_.end());
    return;
  }
  SequenceUpdate& earlier = entry->second->update;
  bytes_ += Bytes(update) - kUpdateHeadBytes;
  Append(earlier.prompt_logprobs, std::move(update.prompt_logprobs));
  Append(earlier.tokens, std::move(update.tokens));
  Append(earlier.logprobs, std::move(update.logprobs));
  earlier.cached_tokens += update.cached_tokens;
  earlier.finish = update.finish;
  earlier.detail = std::move(update.detail);
  earlier.resumes = update.resumes;
  earlier.preemptions = std::max(earlier.preemptions, update.preemptions);
  earlier.no_room = update.no_room;
}

bool UpdateQueue::TakePart(Waiting& from, size_t bytes_max, SequenceUpdate& part) {
  SequenceUpdate& rest = from.update;
  size_t room = bytes_max - std::min(bytes_max, kUpdateHeadBytes);
  const size_t prompt_left = rest.prompt_logprobs.size() - from.prompt_taken;
  const size_t tokens_left = rest.tokens.size() - from.tokens_taken;
  const auto fits = [&](size_t left, size_t bytes_each) {
    return std::min(left, std::max<size_t>(room / std::max<size_t>(bytes_each, 1), 1));
  };
  part.id = rest.id;
  part.preemptions = rest.preemptions;
  part.tokens_before = rest.tokens_before + static_cast<int64_t>(from.tokens_taken);
  part.prompt_logprobs_before =
      rest.prompt_logprobs_before + static_cast<int64_t>(from.prompt_taken);
  const size_t prompt_count = fits(prompt_left, PositionBytes(rest.prompt_logprobs));
  room -= std::min(room, prompt_count * PositionBytes(rest.prompt_logprobs));
  MoveRange(rest.prompt_logprobs, from.prompt_taken, prompt_count, part.prompt_logprobs);
  from.prompt_taken += prompt_count;
  if (prompt_count < prompt_left) return false;

  part.cached_tokens = std::exchange(rest.cached_tokens, 0);
  const size_t token_count = fits(tokens_left, TokenBytes(rest));
  MoveRange(rest.tokens, from.tokens_taken, token_count, part.tokens);
  MoveRange(rest.logprobs, from.tokens_taken, token_count, part.logprobs);
  from.tokens_taken += token_count;
  if (token_count < tokens_left) return false;
  part.finish = rest.finish;
  part.detail = std::move(rest.detail);
  part.resumes = rest.resumes;
  part.no_room = rest.no_room;
  return true;
}

std::vector<SequenceUpdate> UpdateQueue::Take(size_t bytes_max) {
  std::vector<SequenceUpdate> taken;
  size_t room = bytes_max;
  for (size_t turns = waiting_.size(); turns > 0 && room > 0; --turns) {
    const auto first = waiting_.begin();
    SequenceUpdate& part = taken.emplace_back();
    const bool all = TakePart(*first, room, part);
    const size_t bytes = Bytes(part);
    room -= std::min(room, bytes);
    bytes_ -= all ? bytes : bytes - kUpdateHeadBytes;
    if (all) {
      by_id_.erase(part.id);
      waiting_.erase(first);
    } else {
      waiting_.splice(waiting_.end(), waiting_, first);
    }
  }
  return taken;
}

}  // namespace shoal::rpc
