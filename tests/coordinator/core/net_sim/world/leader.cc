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
  if (request.deadline_ms > 0) {
    live.deadline = clock_.now() + request.deadline_ms * kMillisecondNs;
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
  for (HeldStream& held : told.streams) {
    const auto live = live_.find(held.request.id);
    held.request.deadline_ms = 0;
    if (live == live_.end() || !live->second.deadline) continue;
    const TimeNs left = *live->second.deadline - clock_.now();
    held.request.deadline_ms = std::max<int64_t>(1, left / kMillisecondNs);
  }
  return told;
}

Leader::Live* Leader::FindNext(bool running) {
  const auto rank = [](const Live& live) {
    return std::pair(live.request.service_class, live.request.params.priority);
  };
  Live* found = nullptr;
  for (auto& [id, live] : live_) {
    if (live.running != running || live.cancelled) continue;
    if (found == nullptr || (running ? rank(live) > rank(*found) : rank(live) < rank(*found))) {
      found = &live;
    }
  }
  return found;
}

// By class, then priority, then as they came. One that runs gives its place to one of a better
// class, and goes on later from where it was.
void Leader::StartWaiting() {
  auto running = std::ranges::count_if(
      live_, [](const auto& entry) { return entry.second.running && !entry.second.cancelled; });
  while (Live* first = FindNext(/*running=*/false)) {
    if (running >= shape_.sequences_max) {
      Live* last = FindNext(/*running=*/true);
      if (last->request.service_class <= first->request.service_class) return;
      last->running = false;
      ++stats_.preemptions_total;
      --running;
    }
    if (!std::exchange(first->started, true)) {
      stats_.prompt_rows_total += std::ssize(first->request.prompt);
    }
    first->running = true;
    ++running;
  }
}

SchedulerStats Leader::stats() const {
  SchedulerStats stats = stats_;
  stats.steps_total = static_cast<int64_t>(steps_);
  for (const auto& [id, live] : live_) {
    ++(live.running ? stats.sequences_running : stats.requests_waiting);
    if (!live.started) stats.prompt_rows_left += std::ssize(live.request.prompt);
    stats.tokens_left += live.request.params.tokens_max - live.tokens;
  }
  return stats;
}

std::vector<SequenceUpdate> Leader::Step() {
  ++steps_;
  std::vector<SequenceUpdate> updates;
  EndOverdue(updates);
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

void Leader::EndOverdue(std::vector<SequenceUpdate>& updates) {
  for (auto next = live_.begin(); next != live_.end();) {
    const auto entry = next++;
    const Live& live = entry->second;
    if (live.cancelled || !live.deadline || *live.deadline > clock_.now()) continue;
    SequenceUpdate update;
    update.id = entry->first;
    update.tokens_before = live.tokens;
    update.prompt_logprobs_before = live.prompt_logprobs;
    update.finish = FinishReason::kCancelled;
    update.detail = kDeadlineOver;
    live_.erase(entry);
    if (held_.Add(update, clock_.now())) updates.push_back(std::move(update));
  }
}

SequenceUpdate Leader::Advance(Live& live) {
  const GenerationParams& params = live.request.params;
  SequenceUpdate update;
  update.id = live.request.id;
  update.tokens_before = live.tokens;
  update.prompt_logprobs_before = live.prompt_logprobs;
  if (live.cancelled || (fails && !IsCanary(live) && chance_.OneIn(2))) {
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
  stats_.generated_tokens_total += std::ssize(update.tokens);
  if (IsCanary(live) && unsound) {
    float& bits = update.logprobs.back().logprob;
    bits = std::bit_cast<float>(std::bit_cast<uint32_t>(bits) ^ 1U);
  }
  update.finish = live.state.finish();
  update.detail = live.state.detail();
  return update;
}

}  // namespace shoal::core::net_sim
