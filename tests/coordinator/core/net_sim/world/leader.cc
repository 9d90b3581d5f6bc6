#include "tests/coordinator/core/net_sim/world/leader.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

constexpr size_t kHeldMax = 64;

void Append(const SequenceUpdate& update, SequenceUpdate& all) {
  const auto append = [](const auto& part, auto& whole) {
    whole.insert(whole.end(), part.begin(), part.end());
  };
  append(update.tokens, all.tokens);
  append(update.logprobs, all.logprobs);
  append(update.prompt_logprobs, all.prompt_logprobs);
  all.finish = update.finish;
  all.detail = update.detail;
}

}  // namespace

void Leader::Submit(const SequenceRequest& request) {
  if (records_.contains(request.id)) return;
  Record record{request, TwinState(shape_.numerics_id, request.prompt, request.params)};
  for (const int32_t token : request.generated) {
    SHOAL_CHECK(record.state.finish() == FinishReason::kNone, "generated beyond its end");
    record.state.Absorb(token);
  }
  record.all.id = request.id;
  record.all.tokens_before = std::ssize(request.generated);
  if (request.prompt_logprobs_given && request.params.prompt_logprobs) {
    record.all.prompt_logprobs_before = std::ssize(request.prompt) - 1;
  }
  record.refused =
      !(request.stream == StreamId{}) && refuse_one_in > 0 && chance_.OneIn(refuse_one_in);
  records_.emplace(request.id, std::move(record));
}

void Leader::Cancel(SequenceId id) {
  const auto record = records_.find(id);
  if (record != records_.end()) record->second.cancelled = true;
}

void Leader::Release(SequenceId id) {
  const auto record = records_.find(id);
  if (record != records_.end() && record->second.all.finish != FinishReason::kNone) {
    records_.erase(record);
  }
}

std::vector<SequenceUpdate> Leader::Step() {
  ++steps_;
  std::vector<SequenceUpdate> updates;
  int32_t running = 0;
  for (auto next = records_.begin(); next != records_.end();) {
    const auto entry = next++;
    Record& record = entry->second;
    if (record.all.finish != FinishReason::kNone) continue;
    const bool ends_now = record.cancelled || record.refused;
    if (!ends_now && ++running > shape_.sequences_max) continue;
    if (record.request.prompt.front() == kPoison && !ends_now) poisoned_ = true;
    SequenceUpdate update = Advance(record);
    if (update.finish == FinishReason::kNone && update.tokens.empty() &&
        update.prompt_logprobs.empty()) {
      continue;
    }
    Append(update, record.all);
    const bool forgotten = update.finish == FinishReason::kCancelled ||
                           (update.finish != FinishReason::kNone && !record.request.resumable);
    updates.push_back(std::move(update));
    if (forgotten) records_.erase(entry);
  }
  BoundHeld();
  return updates;
}

SequenceUpdate Leader::Advance(Record& record) {
  const GenerationParams& params = record.request.params;
  SequenceUpdate update;
  update.id = record.request.id;
  update.tokens_before = record.all.tokens_before + std::ssize(record.all.tokens);
  update.prompt_logprobs_before =
      record.all.prompt_logprobs_before + std::ssize(record.all.prompt_logprobs);
  if (record.cancelled || record.refused) {
    update.finish = FinishReason::kCancelled;
    if (record.refused) update.detail = "no room for it here";
    return update;
  }
  if (params.prompt_logprobs && !record.request.prompt_logprobs_given) {
    const auto whole = PromptLogprobs(shape_.numerics_id, record.request.prompt, params);
    const auto done = std::ssize(record.all.prompt_logprobs);
    const int64_t left = std::ssize(whole) - done;
    const int64_t count = IsCanary(record) ? left : std::min(left, chance_.Draw(1, 4));
    update.prompt_logprobs.assign(whole.begin() + done, whole.begin() + done + count);
    if (count < left) return update;
  }
  const int64_t count = IsCanary(record) ? params.tokens_max : chance_.Draw(0, 3);
  for (int64_t i = 0; i < count && record.state.finish() == FinishReason::kNone; ++i) {
    if (params.top_logprobs >= 0) {
      update.logprobs.push_back(record.state.Logprobs(params.top_logprobs));
    }
    update.tokens.push_back(record.state.Next());
  }
  if (IsCanary(record) && unsound) {
    float& bits = update.logprobs.back().logprob;
    bits = std::bit_cast<float>(std::bit_cast<uint32_t>(bits) ^ 1U);
  }
  update.finish = record.state.finish();
  update.detail = record.state.detail();
  return update;
}

std::vector<SequenceUpdate> Leader::TellAgain() const {
  std::vector<SequenceUpdate> updates;
  for (const auto& [id, record] : records_) updates.push_back(record.all);
  return updates;
}

std::vector<HeldStream> Leader::HandOver() {
  std::vector<HeldStream> streams;
  for (auto next = records_.begin(); next != records_.end();) {
    const auto entry = next++;
    if (entry->second.request.resumable && !entry->second.cancelled) {
      streams.push_back({entry->second.request, entry->second.all});
    } else {
      records_.erase(entry);
    }
  }
  return streams;
}

void Leader::DropTransient() {
  std::erase_if(records_, [](const auto& entry) { return !entry.second.request.resumable; });
}

bool Leader::busy() const {
  return std::ranges::any_of(
      records_, [](const auto& entry) { return entry.second.all.finish == FinishReason::kNone; });
}

size_t Leader::held() const {
  return static_cast<size_t>(std::ranges::count_if(
      records_, [](const auto& entry) { return entry.second.all.finish != FinishReason::kNone; }));
}

void Leader::BoundHeld() {
  for (size_t excess = held(); excess > kHeldMax; --excess) {
    records_.erase(std::ranges::find_if(records_, [](const auto& entry) {
      return entry.second.all.finish != FinishReason::kNone;
    }));
  }
}

}  // namespace shoal::core::net_sim
