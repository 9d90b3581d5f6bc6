#include "coordinator/core/ladder/ladder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

std::string_view ToString(RungKind kind) {
  constexpr std::array<std::string_view, 4> kNames = {"model", "cache", "rules", "knowledge"};
  return kNames.at(static_cast<size_t>(kind));
}

Ladder::Ladder(LadderPolicy policy) : policy_(std::move(policy)) {}

void Ladder::Configure(LadderPolicy policy, TimeNs now) {
  policy_ = std::move(policy);
  sessions_.clear();
  refusals_.clear();
  if (level_ > lowest()) Go(lowest(), "the ladder was read again, and ends there", now);
}

bool Ladder::MayAnswer(int32_t rung, ServiceClass service_class) const {
  if (rung == 0) return true;
  return policy_.rungs[static_cast<size_t>(rung) - 1].quality >=
         policy_.quality_floors[static_cast<size_t>(service_class)];
}

std::vector<int32_t> Ladder::Order(ServiceClass service_class, const std::string& session,
                                   TimeNs now) {
  std::vector<int32_t> order;
  const auto add = [&](int32_t begin, int32_t end) {
    for (int32_t rung = begin; rung < end; ++rung) {
      if (MayAnswer(rung, service_class)) order.push_back(rung);
    }
  };
  add(level_, lowest() + 1);
  add(0, level_);
  if (session.empty()) return order;
  const auto place = sessions_.find(session);
  if (place == sessions_.end() || place->second.until <= now) return order;
  const int32_t rung = place->second.rung;
  const auto at = std::ranges::find(order, rung);
  // Not above the level, which is there to keep load away.
  if (rung >= level_ && at != order.end()) std::rotate(order.begin(), at, at + 1);
  return order;
}

bool Ladder::MayDegrade(BusyReason reason) const {
  return std::ranges::find(policy_.reasons, reason) != policy_.reasons.end();
}

void Ladder::NoteRefusal(int32_t rung, BusyReason reason, TimeNs now) {
  // A deadline that nobody could meet says nothing of the region, and any client can send one.
  if (!MayDegrade(reason) || reason == BusyReason::kDeadlineUnreachable || rung > level_) return;
  last_trouble_ = now;
  if (rung < level_) return;
  refusals_.push_back(now);
  while (now - refusals_.front() > policy_.within_ms * kMillisecondNs) refusals_.pop_front();
  if (std::ssize(refusals_) < policy_.refusals) return;
  if (level_ == lowest() || !MayGoDown(now)) {
    refusals_.pop_front();
    return;
  }
  Go(level_ + 1,
     Str(policy_.refusals, " refusals in ", policy_.within_ms, " ms, the last one ",
         ToString(reason)),
     now);
}

void Ladder::NoteAnswer(int32_t rung, const std::string& session, TimeNs now) {
  if (session.empty()) return;
  const bool stays =
      rung > 0 && policy_.rungs[static_cast<size_t>(rung) - 1].kind == RungKind::kModel;
  if (!stays) return;
  if (sessions_.size() >= kSessionsMax && !sessions_.contains(session)) {
    std::erase_if(sessions_, [now](const auto& entry) { return entry.second.until <= now; });
    if (sessions_.size() >= kSessionsMax) sessions_.erase(sessions_.begin());
  }
  sessions_[session] = {rung, now + hold_ns()};
}

void Ladder::Tick(bool asked, TimeNs now) {
  if (asked) {
    last_trouble_ = now;
    const bool steps = level_ == 0 ? MayGoDown(now) : Rested(now);
    if (steps && level_ < lowest()) Go(level_ + 1, "a breaker asks for it", now);
    return;
  }
  if (level_ == 0 || !Rested(now)) return;
  if (last_trouble_ && now - *last_trouble_ < hold_ns()) return;
  Go(level_ - 1, Str("nothing was refused for ", policy_.hold_ms, " ms"), now);
}

bool Ladder::Rested(TimeNs now) const { return !last_change_ || now - *last_change_ >= hold_ns(); }

void Ladder::Go(int32_t to, std::string why, TimeNs now) {
  // Nobody takes them for a while: the newest say where it is.
  if (changes_.size() >= 64) changes_.pop_front();
  changes_.push_back({level_, to, std::move(why)});
  went_down_ = to > level_;
  level_ = to;
  last_change_ = now;
  refusals_.clear();
}

std::optional<LadderChange> Ladder::TakeChange() {
  if (changes_.empty()) return std::nullopt;
  LadderChange change = std::move(changes_.front());
  changes_.pop_front();
  return change;
}

}  // namespace shoal::core
