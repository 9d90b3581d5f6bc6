#include "worker/rank/serving/held_streams.h"

#include <algorithm>
#include <iterator>

#include "transport/base/check.h"

namespace shoal::rank {
namespace {

// Of a sequence beside its arrays, with its place in the map.
constexpr size_t kEntryBytes = 512;

size_t LogprobsBytes(const std::vector<TokenLogprobs>& list) {
  if (list.empty()) return 0;
  // All positions of a request have equally many alternatives.
  return list.size() *
         (sizeof(TokenLogprobs) + list.back().top.size() * sizeof(std::pair<int32_t, float>));
}

size_t UpdateBytes(const SequenceUpdate& update) {
  return update.tokens.size() * sizeof(int32_t) + LogprobsBytes(update.logprobs) +
         LogprobsBytes(update.prompt_logprobs) + update.detail.size();
}

size_t RequestBytes(const SequenceRequest& request) {
  const GenerationParams& params = request.params;
  return kEntryBytes + (request.prompt.size() + request.generated.size()) * sizeof(int32_t) +
         params.stop_ids.size() * sizeof(int32_t) +
         params.sampling.logit_bias.size() * sizeof(LogitBias) + params.cache_salt.size() +
         params.grammar.text.size() + request.tenant.size();
}

template <typename T>
void Append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void HeldStreams::Begin(SequenceRequest request) {
  const auto [found, is_new] = entries_.try_emplace(request.id);
  SHOAL_CHECK(is_new, "sequence ", request.id, " is held already");
  Entry& entry = found->second;
  SequenceUpdate& all = entry.stream.all;
  all.id = request.id;
  all.tokens_before = static_cast<int64_t>(request.generated.size());
  if (request.params.prompt_logprobs && request.prompt_logprobs_given) {
    all.prompt_logprobs_before = static_cast<int64_t>(request.prompt.size()) - 1;
  }
  const size_t bytes = RequestBytes(request);
  entry.stream.request = std::move(request);
  Grow(entry, bytes);
  Shrink();
}

bool HeldStreams::Add(const SequenceUpdate& update, TimeNs now) {
  const auto found = entries_.find(update.id);
  if (found == entries_.end() || found->second.ended) return false;
  Entry& entry = found->second;
  SequenceUpdate& all = entry.stream.all;
  if (entry.held) {
    SHOAL_CHECK(update.tokens_before == all.tokens_before + static_cast<int64_t>(all.tokens.size()),
                "sequence ", update.id, ": an update after ", update.tokens_before, " tokens, ",
                all.tokens.size(), " are held after ", all.tokens_before);
    Append(all.tokens, update.tokens);
    Append(all.logprobs, update.logprobs);
    Append(all.prompt_logprobs, update.prompt_logprobs);
    all.cached_tokens += update.cached_tokens;
    all.preemptions = std::max(all.preemptions, update.preemptions);
    all.finish = update.finish;
    all.detail = update.detail;
    Grow(entry, UpdateBytes(update));
  }
  if (update.finish != FinishReason::kNone) End(found, now);
  Shrink();
  return true;
}

void HeldStreams::Refuse(const SequenceUpdate& update, TimeNs now) {
  const auto [found, is_new] = entries_.try_emplace(update.id);
  if (!is_new) return;
  found->second.stream.request.id = update.id;
  found->second.stream.all = update;
  Grow(found->second, kEntryBytes + UpdateBytes(update));
  End(found, now);
  Shrink();
}

void HeldStreams::Release(uint64_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  if (found->second.ended) {
    Forget(found);
  } else {
    found->second.stream.request.resumable = false;
  }
}

void HeldStreams::Orphan(TimeNs now, int64_t orphan_grace_ms) {
  if (orphaned_) return;
  const int64_t plain_ms = std::min(limits_.plain_grace_ms, orphan_grace_ms);
  orphaned_ = {now + plain_ms * kMillisecondNs, now + orphan_grace_ms * kMillisecondNs};
  plain_gone_ = false;
}

std::vector<uint64_t> HeldStreams::Expire(TimeNs now) {
  while (!closed_.empty() && closed_.front().first <= now) {
    const auto found = entries_.find(closed_.front().second);
    closed_.pop_front();
    if (found != entries_.end() && found->second.ended) Forget(found);
  }
  std::vector<uint64_t> cancelled;
  if (!orphaned_) return cancelled;
  const bool all_due = now >= orphaned_->until;
  const bool plain_due = now >= orphaned_->plain_until && !plain_gone_;
  if (!all_due && !plain_due) return cancelled;
  plain_gone_ = true;
  for (auto next = entries_.begin(); next != entries_.end();) {
    const auto entry = next++;
    if (!all_due && entry->second.stream.request.resumable) continue;
    if (!entry->second.ended) cancelled.push_back(entry->first);
    Forget(entry);
  }
  return cancelled;
}

std::optional<SequenceUpdate> HeldStreams::All(uint64_t id) const {
  const auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.held) return std::nullopt;
  return found->second.stream.all;
}

// `tell` returns false for what the coordinator is not to hear of.
template <typename Tell>
HeldStreams::Told HeldStreams::TellEach(Tell&& tell) {
  orphaned_.reset();
  Told told;
  for (auto next = entries_.begin(); next != entries_.end();) {
    const auto found = next++;
    const Entry& entry = found->second;
    if (entry.held && tell(entry.stream, told)) continue;
    if (!entry.ended) told.cancelled.push_back(found->first);
    Forget(found);
  }
  return told;
}

HeldStreams::Told HeldStreams::SendAgain() {
  return TellEach([](const HeldStream& stream, Told& told) {
    told.updates.push_back(stream.all);
    return true;
  });
}

HeldStreams::Told HeldStreams::HandOver() {
  return TellEach([](const HeldStream& stream, Told& told) {
    if (stream.request.resumable) told.streams.push_back(stream);
    return stream.request.resumable;
  });
}

HeldStreams::Told HeldStreams::HandOverAgain() {
  return TellEach([](const HeldStream& stream, Told& told) {
    if (stream.request.resumable) {
      told.streams.push_back(stream);
    } else {
      told.updates.push_back(stream.all);
    }
    return true;
  });
}

void HeldStreams::Grow(Entry& entry, size_t bytes) {
  entry.bytes += bytes;
  bytes_ += bytes;
}

void HeldStreams::End(Entries::iterator found, TimeNs now) {
  Entry& entry = found->second;
  entry.ended = true;
  // Whoever cancelled it does not come for it.
  if (entry.stream.all.finish == FinishReason::kCancelled) entry.stream.request.resumable = false;
  if (!entry.held) {
    Forget(found);
  } else if (entry.stream.request.resumable) {
    entry.place = ended_.insert(ended_.end(), found->first);
    if (ended_.size() > limits_.ended_max) Forget(entries_.find(ended_.front()));
  } else {
    closed_.emplace_back(now + limits_.ended_ms * kMillisecondNs, found->first);
  }
}

// Forgets until the rest is within its bound.
void HeldStreams::Shrink() {
  while (bytes_ > limits_.bytes_max) {
    if (!closed_.empty()) {
      const auto found = entries_.find(closed_.front().second);
      closed_.pop_front();
      if (found != entries_.end() && found->second.ended) Forget(found);
    } else if (!ended_.empty()) {
      Forget(entries_.find(ended_.front()));
    } else {
      const auto longest = std::max_element(
          entries_.begin(), entries_.end(),
          [](const auto& a, const auto& b) { return a.second.bytes < b.second.bytes; });
      if (longest == entries_.end()) return;
      Entry& entry = longest->second;
      bytes_ -= entry.bytes;
      entry.bytes = 0;
      entry.held = false;
      entry.stream = {.request = {.id = longest->first}};
    }
  }
}

void HeldStreams::Forget(Entries::iterator found) {
  const Entry& entry = found->second;
  bytes_ -= entry.bytes;
  if (entry.ended && entry.held && entry.stream.request.resumable) ended_.erase(entry.place);
  entries_.erase(found);
}

}  // namespace shoal::rank
