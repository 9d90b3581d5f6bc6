// One stream's answer for all who ask the same.

#include <optional>
#include <utility>
#include <variant>

#include "coordinator/core/admission.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/region.h"
#include "coordinator/core/streams/replay.h"

namespace shoal::core {

std::optional<StreamId> Region::FindSame(const Request& request) const {
  if (!options_.coalesce || !request.shares || request.resumable) return std::nullopt;
  const std::optional<ModelKey> key = FindKey(request, options_, groups_);
  if (!key) return std::nullopt;
  std::optional<TimeNs> deadline;
  if (request.terms.deadline_ms > 0) {
    deadline = clock_.now() + request.terms.deadline_ms * kMillisecondNs;
  }
  return flights_.FindSame(request, *key, tenants_.ClassOf(request.terms), deadline,
                           streams_.all());
}

std::variant<StreamId, StreamError> Region::Join(StreamId id, const Request& request) {
  const TimeNs now = clock_.now();
  auto charged = tenants_.Charge(request.terms, kSharerTokens, now);
  if (auto* refusal = std::get_if<StreamError>(&charged)) return std::move(*refusal);
  Stream& stream = *streams_.Find(id);
  const StreamId sharer = request.stream ? *request.stream : streams_.DrawId();
  Sharer who{.terms = request.terms, .grant = std::get<Grant>(std::move(charged))};
  if (request.terms.deadline_ms > 0) {
    who.deadline = now + request.terms.deadline_ms * kMillisecondNs;
  }
  flights_.Join(id, sharer, std::move(who));
  SetDeadline(id, flights_.DeadlineOf(id));
  ++counts_.requests_total;
  ++counts_.requests_coalesced_total;
  Record record = RecordOf(RecordKind::kJoined, sharer, stream);
  record.detail = Str("it gets the answer of stream ", id, ", which asks the same");
  record.group = stream.group;
  record.figures = {{"tokens_so_far", static_cast<double>(stream.tokens.size()), "that stream"}};
  recorder_.Note(std::move(record));
  for (SequenceUpdate& update : Replay(stream, nullptr)) {
    actions_.emplace_back(DeliverAction{sharer, std::move(update)});
  }
  return sharer;
}

bool Region::LeaveOthers(StreamId sharer, RecordKind why) {
  const std::optional<StreamId> id = flights_.StreamOf(sharer);
  // A client that has left already has no part in what goes on for others.
  if (!id) return flights_.SharersOf(sharer) != nullptr;
  if (flights_.SharersOf(*id)->size() < 2) return false;
  Stream& stream = *streams_.Find(*id);
  recorder_.Note(RecordOf(why, sharer, stream));
  const std::optional<Grant> grant = flights_.Leave(sharer);
  if (grant) tenants_.End(*grant, grant->tokens, clock_.now());
  SetDeadline(*id, flights_.DeadlineOf(*id));
  return true;
}

void Region::ExpireSharers() {
  for (const StreamId sharer : flights_.Expired(clock_.now())) {
    LeaveOthers(sharer, RecordKind::kExpired);
    actions_.emplace_back(
        FailAction{sharer, MakeStreamError(BusyReason::kDeadlineExceeded, "its deadline is over")});
  }
}

std::optional<StreamError> Region::PreCheck(const RequestTerms& terms) {
  if (!stopping_) CatchUp();
  const auto find = [&]() -> std::optional<StreamError> {
    if (stopping_) return MakeStreamError(BusyReason::kDraining, "this coordinator is stopping");
    if (auto refusal = tenants_.FindRetryRefusal(terms, clock_.now())) return refusal;
    if (auto refusal = guard_.FindRefusal(tenants_.ClassOf(terms), clock_.now())) return refusal;
    if (auto refusal = tenants_.FindRefusal(terms)) return refusal;
    // There may be an answer to share, however full all is.
    if (flights_.HasTenant(terms.tenant)) return std::nullopt;
    return FindAllFull(terms, View());
  };
  std::optional<StreamError> refusal = find();
  if (refusal) {
    // It has been tried, and comes to no Submit that would count it.
    tenants_.NoteAttempt(terms, clock_.now());
    NoteRejection(terms, *refusal);
  }
  return refusal;
}

}  // namespace shoal::core
