// What gateways want: streams that begin, go on, are left alone for a while, and end.

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/core/admission.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "coordinator/core/streams/replay.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

// What came of a stream that ends now.
std::vector<RecordFigure> FiguresOf(const Stream& stream, TimeNs now) {
  const auto total_ms = (now - stream.arrival_time) / kMillisecondNs;
  return {{"prompt_tokens", static_cast<double>(stream.request.prompt.size()), "the request"},
          {"generated_tokens", static_cast<double>(stream.tokens.size()), "its groups' updates"},
          {"total_ms", static_cast<double>(total_ms), "the region's clock"},
          {"groups_lost", static_cast<double>(stream.groups_lost), "the region"}};
}

}  // namespace

std::variant<StreamId, StreamError> Region::Submit(Request request) {
  if (stopping_) return MakeStreamError(BusyReason::kDraining, "this coordinator is stopping");
  CatchUp();
  if (request.stream &&
      (streams_.Find(*request.stream) != nullptr || ended_.Find(*request.stream) != nullptr ||
       flights_.StreamOf(*request.stream))) {
    return MakeStreamError(BusyReason::kInvalid,
                           Str("there is a stream ", *request.stream, " already"));
  }
  const RequestTerms terms = request.terms;
  if (auto refusal = tenants_.NoteAttempt(terms, clock_.now())) {
    NoteRejection(terms, *refusal);
    return *std::move(refusal);
  }
  if (const std::optional<StreamId> same = FindSame(request)) {
    auto joined = Join(*same, request);
    if (auto* refusal = std::get_if<StreamError>(&joined)) NoteRejection(terms, *refusal);
    return joined;
  }
  auto admitted = Admit(std::move(request), View());
  if (auto* refusal = std::get_if<StreamError>(&admitted)) {
    NoteRejection(terms, *refusal);
    return std::move(*refusal);
  }
  ++counts_.requests_total;
  MakeRoomFor(std::get<Stream>(admitted));
  const StreamId id = AddStream(std::get<Stream>(std::move(admitted)));
  const Stream& stream = *streams_.Find(id);
  if (options_.coalesce && stream.request.shares && !stream.request.resumable) {
    flights_.Add(id, stream);
  }
  Record record = RecordOf(RecordKind::kAdmitted, id, stream);
  record.figures = {{"tokens", static_cast<double>(stream.tokens_needed), "the request"}};
  if (stream.predicted) {
    record.figures.push_back({"predicted_wait_ms",
                              static_cast<double>(stream.predicted->first_token_ms()),
                              "the groups' reports"});
  }
  recorder_.Note(std::move(record));
  Dispatch(ModelKey(streams_.Find(id)->key));
  return id;
}

void Region::CatchUp() {
  EndOverdue();
  if (tenants_.policy().shape_tokens_per_second > 0) DispatchAll();
}

AdmissionView Region::View() {
  return {.options = options_,
          .groups = groups_,
          .streams = streams_,
          .suspects = suspects_,
          .guard = guard_,
          .waits = waits_,
          .tenants = tenants_,
          .refusals = refusals_,
          .now = clock_.now()};
}

void Region::NoteRejection(const RequestTerms& terms, const StreamError& why) {
  Record record = RejectionOf(terms, why);
  record.service_class = tenants_.ClassOf(terms);
  if (why.reason == BusyReason::kBreakerOpen) {
    const Breaker* breaker = guard_.FindOpen(*record.service_class, clock_.now());
    if (breaker != nullptr) record.figures.push_back(LimitOf(breaker->rule()));
  }
  recorder_.Note(std::move(record));
}

void Region::MakeRoomFor(const Stream& stream) {
  const ServiceClass service_class = stream.grant.service_class;
  if (streams_.waiting(stream.key).fresh() < static_cast<size_t>(options_.queue_requests_max) ||
      HasRoom(groups_.all(), stream.key, stream.tokens_needed, service_class)) {
    return;
  }
  const std::optional<StreamId> victim =
      streams_.waiting(stream.key)
          .FindVictim({.tenant = stream.grant.tenant,
                       .service_class = service_class,
                       .weight = stream.grant.weight,
                       .retry = stream.request.terms.attempt > 1},
                      KeptPlaces(tenants_.policy(), options_));
  SHOAL_CHECK(victim, "a request was taken, and there is no room for it");
  const Stream& displaced = *streams_.Find(*victim);
  const ServiceClass worse = displaced.grant.service_class;
  refusals_.Note(stream.key, worse, clock_.now());
  // Were it to come again now. Only where classes count is anyone displaced.
  const std::optional<WaitAnswer> predicted =
      waits_.Predict({.key = displaced.key,
                      .service_class = worse,
                      .prompt_tokens = std::ssize(displaced.request.prompt),
                      .tokens_max = displaced.request.params.tokens_max,
                      .now = clock_.now()},
                     groups_.all(), streams_);
  FailStream(*victim, TellWait(MakeStreamError(
                                   BusyReason::kQueueFull,
                                   Str("the queue was full, and a request of class ",
                                       ToString(service_class),
                                       " took the place of this one, of class ", ToString(worse))),
                               predicted));
}

StreamId Region::AddStream(Stream stream) {
  stream.token_time = clock_.now();
  stream.arrival_time = clock_.now();
  const StreamId id = streams_.Add(std::move(stream));
  const Stream& added = *streams_.Find(id);
  if (added.deadline) deadlines_.emplace(*added.deadline, id);
  actions_.emplace_back(JournalAction{id, JournalBegin{added.request, added.key}});
  if (!added.tokens.empty()) actions_.emplace_back(JournalAction{id, JournalTokens{added.tokens}});
  return id;
}

std::variant<Region::Resumed, StreamError> Region::Resume(Request request) {
  SHOAL_CHECK(request.stream, "a request that is to go on with no stream");
  if (stopping_) return MakeStreamError(BusyReason::kDraining, "this coordinator is stopping");
  EndOverdue();
  const StreamId id = *request.stream;
  EndedStream* ended = ended_.Find(id);
  Stream* stream = ended != nullptr ? &ended->stream : streams_.Find(id);
  if (stream == nullptr) {
    auto outcome = Submit(std::move(request));
    if (auto* error = std::get_if<StreamError>(&outcome)) return std::move(*error);
    ForgetActionsFor(id);
    return Resumed{.recomputing = true};
  }
  const std::string name = ModelName(request.model, options_, groups_).value_or("");
  const std::string difference = stream->request.resumable
                                     ? FindRequestDifference(request, name, *stream)
                                     : "that the stream is not resumable";
  if (!difference.empty()) {
    return MakeStreamError(BusyReason::kInvalid,
                           Str("stream ", id, " is of another request: ", difference, " differs"));
  }
  ForgetActionsFor(id);
  stream->detached_since.reset();
  if (ended != nullptr) ended->until = clock_.now() + options_.orphan_grace_ms * kMillisecondNs;
  for (SequenceUpdate& update : Replay(*stream, ended != nullptr ? &ended->end : nullptr)) {
    actions_.emplace_back(DeliverAction{id, std::move(update)});
  }
  return Resumed{};
}

// What was about to be told to the listener before is not for the next one, who hears all anew.
void Region::ForgetActionsFor(StreamId id) {
  std::erase_if(actions_, [&](const Action& action) {
    const auto* deliver = std::get_if<DeliverAction>(&action);
    const auto* fail = std::get_if<FailAction>(&action);
    return (deliver != nullptr && deliver->stream == id) || (fail != nullptr && fail->stream == id);
  });
}

void Region::Detach(StreamId id) {
  if (flights_.StreamOf(id)) return Cancel(id);
  Stream* stream = streams_.Find(id);
  if (stream == nullptr) return;
  if (!stream->request.resumable || options_.orphan_grace_ms == 0) return Cancel(id);
  if (stream->detached_since) return;
  stream->detached_since = clock_.now();
  LimitDetached();
}

void Region::LimitDetached() {
  if (streams_.detached_count() <= kDetachedStreamsMax) return;
  const auto oldest = std::ranges::min_element(streams_.all(), {}, [](const auto& entry) {
    return entry.second.detached_since.value_or(INT64_MAX);
  });
  Cancel(oldest->first);
}

void Region::Cancel(StreamId reader) {
  if (const std::optional<EndedStream> ended = ended_.Remove(reader)) return Release(ended->holder);
  if (LeaveOthers(reader, RecordKind::kCancelled)) return;
  const StreamId id = flights_.StreamOf(reader).value_or(reader);
  const Stream* stream = streams_.Find(id);
  if (stream == nullptr) return;
  if (stream->group) {
    const Group& group = groups_.at(*stream->group);
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, stream->sequence});
  }
  recorder_.Note(RecordOf(RecordKind::kCancelled, reader, *stream));
  EndStream(id);
}

void Region::FailStream(StreamId id, StreamError error) {
  const bool expired = error.reason == BusyReason::kDeadlineExceeded;
  const Stream& stream = *streams_.Find(id);
  std::vector<RecordFigure> figures = FiguresOf(stream, clock_.now());
  if (error.retry_after_ms > 0) {
    figures.push_back(
        {"retry_after_ms", static_cast<double>(error.retry_after_ms), "what it was told"});
  }
  if (error.predicted_wait_ms >= 0) {
    figures.push_back(
        {"predicted_wait_ms", static_cast<double>(error.predicted_wait_ms), "the groups' reports"});
  }
  flights_.ForEachReader(id, [&](StreamId reader) {
    Record record = RecordOf(expired ? RecordKind::kExpired : RecordKind::kFailed, reader, stream);
    record.reason = error.reason;
    record.detail = error.message;
    record.figures = figures;
    recorder_.Note(std::move(record));
    // A client that comes back for it has it recomputed, or hears why it is not.
    if (!stream.detached_since) actions_.emplace_back(FailAction{reader, error});
  });
  EndStream(id);
}

void Region::FinishStream(const Group& group, StreamId id, SequenceUpdate last) {
  const Stream& stream = *streams_.Find(id);
  flights_.ForEachReader(id, [&](StreamId reader) {
    Record record = RecordOf(RecordKind::kFinished, reader, stream);
    record.group = group.number;
    record.detail = ToString(last.finish);
    record.figures = FiguresOf(stream, clock_.now());
    recorder_.Note(std::move(record));
  });
  waits_.NoteLength(stream.key, std::ssize(stream.tokens), last.finish == FinishReason::kStop);
  const Holder holder{group.number, group.epoch, last.id};
  EndedStream ended{EndStream(id), std::move(last), holder,
                    clock_.now() + options_.orphan_grace_ms * kMillisecondNs};
  if (!ended.stream.request.resumable) return;
  if (options_.orphan_grace_ms == 0) return Release(ended.holder);
  const std::optional<EndedStream> oldest = ended_.Add(id, std::move(ended));
  if (oldest) Release(oldest->holder);
}

Stream Region::EndStream(StreamId id) {
  actions_.emplace_back(JournalAction{id, JournalEnd{}});
  Stream stream = streams_.Remove(id);
  if (stream.deadline) deadlines_.erase({*stream.deadline, id});
  const bool has_worked = stream.groups_had > 0;
  const int64_t used =
      has_worked ? std::ssize(stream.request.prompt) + std::ssize(stream.tokens) : 0;
  tenants_.End(stream.grant, used, clock_.now());
  if (has_worked) streams_.GiveBack(stream, stream.tokens_needed - used);
  for (const auto& [sharer, who] : flights_.Remove(id)) {
    if (who.grant) tenants_.End(*who.grant, who.grant->tokens, clock_.now());
  }
  return stream;
}

Record Region::RecordOf(RecordKind kind, StreamId id, const Stream& stream) const {
  const Sharer* sharer = flights_.Find(id);
  return {.kind = kind,
          .stream = id,
          .request = sharer != nullptr ? sharer->terms.name : stream.request.terms.name,
          .tenant = stream.grant.tenant,
          .service_class = stream.grant.service_class};
}

void Region::Release(const Holder& holder) {
  const Group* group = groups_.Find(holder.group);
  if (group == nullptr || group->epoch != holder.epoch || !group->has_leader()) return;
  actions_.emplace_back(ReleaseAction{group->leader(), group->epoch, holder.sequence});
}

void Region::ForgetStreams() {
  const TimeNs now = clock_.now();
  for (const StreamId id : ended_.Expired(now)) Cancel(id);
  std::vector<StreamId> left_alone;
  for (const auto& [id, stream] : streams_.all()) {
    const TimeNs grace = options_.orphan_grace_ms * kMillisecondNs;
    if (stream.detached_since && now - *stream.detached_since >= grace) left_alone.push_back(id);
  }
  for (const StreamId id : left_alone) Cancel(id);
}

}  // namespace shoal::core
