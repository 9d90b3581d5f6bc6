#include "tests/coordinator/core/net_sim/world/leader.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

bool Leader::Submit(const SequenceRequest& request) {
  if (held_.Knows(request.id)) return true;
  const auto room = static_cast<size_t>(shape_.sequences_max + shape_.queue_requests_max);
  // What is cancelled makes room, though it is there until the next step.
  const auto count =
      std::ranges::count_if(live_, [](const auto& entry) { return !entry.second.cancelled; });
  const bool is_full = static_cast<size_t>(count) >= room;
  const bool is_canary = request.stream == StreamId{};
  if (is_full || (refuse_one_in > 0 && chance_.OneIn(refuse_one_in))) {
    SequenceUpdate update;
    update.id = request.id;
    update.finish = FinishReason::kCancelled;
    // A leader that is not full may seem so to what was sent to it before it knew.
    update.no_room = is_full || is_canary || chance_.OneIn(2);
    update.detail = update.no_room ? "this group's queue is full" : kDisliked;
    held_.Refuse(update, clock_.now());
    refusals_.push_back(std::move(update));
    // A canary may come before it is known how full it is.
    return !is_full || is_canary;
  }
  Live live{request, TwinState(shape_.numerics_id, request.prompt, request.params)};
  for (const int32_t token : request.generated) {
    SHOAL_CHECK(live.state.finish() == FinishReason::kNone, "generated beyond its end");
    live.state.Absorb(token);
  }
  live.tokens = std::ssize(request.generated);
  if (request.prompt_logprobs_given && request.params.prompt_logprobs) {
    live.prompt_logprobs = std::ssize(request.prompt) - 1;
  }
  live_.emplace(request.id, std::move(live));
  held_.Begin(request);
  return true;
}

void Leader::Cancel(SequenceId id) {
  const auto live = live_.find(id);
  if (live != live_.end()) live->second.cancelled = true;
}

void Leader::Expire() {
  for (const SequenceId id : held_.Expire(clock_.now())) Cancel(id);
}

rank::HeldStreams::Told Leader::Introduce(bool continued, bool introduced_before) {
  refusals_.clear();  // They are part of what is held.
  rank::HeldStreams::Told told = !continued           ? held_.HandOver()
                                 : !introduced_before ? held_.HandOverAgain()
                                                      : held_.SendAgain();
  for (const SequenceId id : told.cancelled) Cancel(id);
  return told;
}

// By priority, then as they came; what runs is not held up.
void Leader::StartWaiting() {
  auto running = std::ranges::count_if(
      live_, [](const auto& entry) { return entry.second.running && !entry.second.cancelled; });
  while (running < shape_.sequences_max) {
    Live* first = nullptr;
    for (auto& [id, live] : live_) {
      if (live.running || live.cancelled) continue;
      if (first == nullptr || live.request.params.priority < first->request.params.priority) {
        first = &live;
      }
    }
    if (first == nullptr) return;
    first->running = true;
    ++running;
  }
}

std::vector<SequenceUpdate> Leader::Step() {
  ++steps_;
  std::vector<SequenceUpdate> updates;
  StartWaiting();
  for (auto next = live_.begin(); next != live_.end();) {
    const auto entry = next++;
    Live& live = entry->second;
    if (!live.cancelled && !live.running) continue;
    if (live.request.prompt.front() == kPoison && !live.cancelled) poisoned_ = true;
    SequenceUpdate update = Advance(live);
    const bool ends = update.finish != FinishReason::kNone;
    if (!ends && update.tokens.empty() && update.prompt_logprobs.empty()) continue;
    if (ends) live_.erase(entry);
    if (held_.Add(update, clock_.now())) updates.push_back(std::move(update));
  }
  return updates;
}

SequenceUpdate Leader::Advance(Live& live) {
  const GenerationParams& params = live.request.params;
  SequenceUpdate update;
  update.id = live.request.id;
  update.tokens_before = live.tokens;
  update.prompt_logprobs_before = live.prompt_logprobs;
  if (live.cancelled) {
    update.finish = FinishReason::kCancelled;
    return update;
  }
  if (params.prompt_logprobs && !live.request.prompt_logprobs_given) {
    const auto whole = PromptLogprobs(shape_.numerics_id, live.request.prompt, params);
    const int64_t left = std::ssize(whole) - live.prompt_logprobs;
    const int64_t count = IsCanary(live) ? left : std::min(left, chance_.Draw(1, 4));
    const auto begin = whole.begin() + live.prompt_logprobs;
    update.prompt_logprobs.assign(begin, begin + count);
    live.prompt_logprobs += count;
    if (count < left) return update;
  }
  const int64_t count = IsCanary(live) ? params.tokens_max : chance_.Draw(0, 3);
  for (int64_t i = 0; i < count && live.state.finish() == FinishReason::kNone; ++i) {
    if (params.top_logprobs >= 0) {
      update.logprobs.push_back(live.state.Logprobs(params.top_logprobs));
    }
    update.tokens.push_back(live.state.Next());
  }
  live.tokens += std::ssize(update.tokens);
  if (IsCanary(live) && unsound) {
    float& bits = update.logprobs.back().logprob;
    bits = std::bit_cast<float>(std::bit_cast<uint32_t>(bits) ^ 1U);
  }
  update.finish = live.state.finish();
  update.detail = live.state.detail();
  return update;
}

}  // namespace shoal::core::net_sim
