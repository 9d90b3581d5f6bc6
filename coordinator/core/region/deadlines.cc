// Streams that end because their time is over.

#include <algorithm>
#include <optional>
#include <utility>

#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

std::optional<TimeNs> Region::next_deadline() const {
  std::optional<TimeNs> next = flights_.NextDeadline();
  if (!deadlines_.empty()) next = std::min(next.value_or(INT64_MAX), deadlines_.begin()->first);
  return next;
}

void Region::SetDeadline(StreamId id, std::optional<TimeNs> deadline) {
  Stream& stream = *streams_.Find(id);
  if (stream.deadline) deadlines_.erase({*stream.deadline, id});
  stream.deadline = deadline;
  if (deadline) deadlines_.emplace(*deadline, id);
}

void Region::EndOverdue() {
  ExpireSharers();
  while (!deadlines_.empty() && deadlines_.begin()->first <= clock_.now()) {
    Expire(deadlines_.begin()->second);
  }
}

void Region::Expire(StreamId id) {
  const Stream& stream = *streams_.Find(id);
  const auto tokens = stream.tokens.size();
  if (stream.group) {
    const Group& group = groups_.at(*stream.group);
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, stream.sequence});
  }
  // It would have waited for at least so long: were it left out, predictions would stay too low.
  if (stream.predicted && tokens == 0) {
    waits_.NoteOutcome(*stream.predicted, stream.grant.service_class,
                       std::max(clock_.now() - stream.arrival_time, stream.predicted->first_token));
  }
  const int64_t after_ms = (clock_.now() - stream.arrival_time) / kMillisecondNs;
  FailStream(id, MakeStreamError(BusyReason::kDeadlineExceeded,
                                 stream.group || tokens > 0
                                     ? Str("its deadline was over after ", after_ms, " ms, with ",
                                           tokens, " tokens of its answer")
                                     : Str("its deadline was over after ", after_ms,
                                           " ms, before it had a place in a group")));
}

}  // namespace shoal::core
