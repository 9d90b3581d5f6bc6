// Streams that leaders have held while there was no coordinator, or another one.

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/region.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::core {

namespace {

// Sequences of other coordinators are believed below it, so that none can use them up.
constexpr SequenceId kSequencesEnd = SequenceId{1} << 63;

std::string FindParamsFault(const SequenceRequest& request, int64_t vocab_size) {
  try {
    CheckParams(request.params);
    CheckTokenIds(request.params, vocab_size);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What is wrong with a held stream by itself, for a group of that shape; empty if nothing is.
std::string FindHeldFault(const HeldStream& held, const RankRegistration& shape) {
  const SequenceRequest& request = held.request;
  if (request.id == 0 || request.id >= kSequencesEnd || held.all.id != request.id) {
    return Str("its sequence is ", request.id, " and ", held.all.id);
  }
  if (request.stream == StreamId{}) return "it has no stream id";
  const auto in_vocabulary = [&](const std::vector<int32_t>& tokens) {
    return std::ranges::all_of(
        tokens, [&](int32_t token) { return token >= 0 && token < shape.vocab_size; });
  };
  if (!in_vocabulary(request.prompt) || !in_vocabulary(request.generated) ||
      !in_vocabulary(held.all.tokens)) {
    return Str("it has a token that is not in the vocabulary of ", shape.vocab_size);
  }
  const int64_t room = std::min(shape.context_tokens, shape.kv_cache_tokens);
  const int64_t tokens_max = request.params.tokens_max;
  if (tokens_max > room - std::ssize(request.prompt)) {
    return Str("its prompt of ", request.prompt.size(), " tokens and its answer of ", tokens_max,
               " do not fit into ", room);
  }
  if (!request.generated.empty() && std::ssize(request.generated) >= tokens_max) {
    return Str("it has ", request.generated.size(), " tokens of ", tokens_max, " already");
  }
  if (request.deadline_ms < 0 || request.deadline_ms > 2 * kDeadlineMsMax) {
    return Str("its deadline is in ", request.deadline_ms, " ms");
  }
  if (held.all.finish == FinishReason::kCancelled) return "it was cancelled";
  return FindParamsFault(request, shape.vocab_size);
}

// As a request of this coordinator.
Stream MakeStream(const HeldStream& held, const ModelKey& key) {
  const SequenceRequest& from = held.request;
  Request request{from.prompt, from.params};
  request.numerics_id = key.numerics_id;
  request.resumable = true;
  request.stream = from.stream;
  Stream stream(std::move(request));
  stream.key = key;
  stream.tokens = from.generated;
  stream.tokens_needed = std::ssize(from.prompt) + from.params.tokens_max;
  return stream;
}

// Whether the log-probabilities of what it had before this group are asked for, and gone.
bool LacksLogprobs(const SequenceRequest& request) {
  return (request.params.top_logprobs >= 0 && !request.generated.empty()) ||
         (request.params.prompt_logprobs && request.prompt_logprobs_given);
}

// Whether some group was given it, be it for a canary or cancelled.
bool IsGiven(const GroupMap& groups, SequenceId sequence) {
  return std::ranges::any_of(
      groups, [&](const auto& entry) { return entry.second.sequences.contains(sequence); });
}

}  // namespace

bool Region::HandOver(ConnectionId connection, uint64_t epoch, std::vector<HeldStream> streams,
                      bool last) {
  Group* group = FindLed(connection, epoch);
  if (group == nullptr) return false;
  EndOverdue();
  const uint64_t number = group->number;
  for (HeldStream& held : streams) {
    if (held.request.id < kSequencesEnd) streams_.SkipTo(held.request.id);
    group->ignored_up_to = std::max(group->ignored_up_to, streams_.last_sequence());
    if (group->rejoin) group->rejoin->unconfirmed.erase(held.request.id);
    if (!TakeHeld(*group, held)) {
      // Whoever comes for it has it computed again.
      actions_.emplace_back(CancelAction{group->leader(), group->epoch, held.request.id});
      actions_.emplace_back(ReleaseAction{group->leader(), group->epoch, held.request.id});
    }
  }
  if (last) SettleRejoin(groups_.at(number));
  Dispatch(ModelKey(groups_.at(number).key));
  return true;
}

bool Region::TakeHeld(Group& group, HeldStream& held) {
  const SequenceId sequence = held.request.id;
  if (ended_.HasHolder({group.number, group.epoch, sequence})) return true;
  const std::optional<StreamId> known = streams_.FindId(sequence);
  if (known) return TakeHeldPart(group, *known, held);
  const size_t others = group.sequences.size() - (group.has_canary() ? 1 : 0);
  if (group.state == GroupState::kStopping || others >= group.capacity() ||
      IsGiven(groups_.all(), sequence) ||
      held.request.prompt.empty() ||  // A part of what was refused before.
      !FindHeldFault(held, group.shape()).empty() || ended_.Find(held.request.stream) != nullptr) {
    return false;
  }
  Stream* stream = streams_.Find(held.request.stream);
  if (stream == nullptr) return AdoptStream(group, held);
  // It goes on here, too, because its client came before this group: where most of it is it stays.
  const int64_t there = held.all.tokens_before + std::ssize(held.all.tokens);
  const bool farther =
      there > std::ssize(stream->tokens) ||
      (held.all.finish != FinishReason::kNone && there == std::ssize(stream->tokens));
  if (!farther || !stream->request.resumable || stream->key != group.key ||
      stream->request.prompt != held.request.prompt ||
      stream->request.params != held.request.params ||
      stream->FindFault(held.all, group.shape().vocab_size)) {
    return false;
  }
  // One on trial is alone with its group, except for what it left there itself.
  if (stream->on_trial() && group.trial && group.trial != stream->sequence) return false;
  if (stream->group) {
    const Group& other = groups_.at(*stream->group);
    actions_.emplace_back(CancelAction{other.leader(), other.epoch, stream->sequence});
    streams_.Park(held.request.stream, {LossCause::kRankDied, "its group of before came back"});
  }
  Bind(held.request.stream, group, sequence);
  ApplyUpdate(group, std::move(held.all));
  return true;
}

bool Region::TakeHeldPart(Group& group, StreamId id, HeldStream& held) {
  const Stream& stream = *streams_.Find(id);
  if (stream.group != group.number) return false;
  if (held.all.finish == FinishReason::kCancelled ||
      stream.FindFault(held.all, group.shape().vocab_size) || !group.FindFault(held.all).empty()) {
    group.Forget(stream.sequence);
    streams_.Park(id, {LossCause::kProtocol, Str(group.Name(), " held something else")});
    return false;
  }
  ApplyUpdate(group, std::move(held.all));
  return true;
}

bool Region::AdoptStream(Group& group, HeldStream& held) {
  Stream adopted = MakeStream(held, group.key);
  if (LacksLogprobs(held.request) || adopted.FindFault(held.all, group.shape().vocab_size)) {
    return false;
  }
  adopted.detached_since = clock_.now();
  adopted.grant = tenants_.Adopt(held.request.tenant, held.request.service_class);
  if (held.request.deadline_ms > 0) {
    adopted.deadline = clock_.now() + held.request.deadline_ms * kMillisecondNs;
  }
  const StreamId id = AddStream(std::move(adopted));
  ++counts_.streams_adopted_total;
  Bind(id, group, held.request.id);
  ApplyUpdate(group, std::move(held.all));
  LimitDetached();
  return true;
}

void Region::Bind(StreamId id, Group& group, SequenceId sequence) {
  const std::optional<Parked>& parked = streams_.Find(id)->parked;
  if (parked && parked->cause) ++counts_.streams_resumed[static_cast<size_t>(*parked->cause)];
  const Stream& stream = streams_.Place(id, group.number, sequence);
  group.Give(sequence, {ClassInGroup(stream), stream.work_left()});
  if (stream.on_trial()) group.trial = sequence;
}

}  // namespace shoal::core
