#include "coordinator/core/region.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "coordinator/core/admission.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/canary.h"
#include "coordinator/core/groups/routing.h"
#include "coordinator/core/invariants.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// With the default heartbeat_ms, once a second.
constexpr int64_t kTicksPerCheck = 10;

bool IsCanary(const Group& group, const SequenceUpdate& update) {
  return group.canary && group.canary->sequence == update.id;
}

}  // namespace

Region::Region(RegionOptions options, const Clock& clock, std::function<uint64_t()> random)
    : options_(std::move(options)),
      groups_(options_),
      health_(options_, clock),
      streams_(std::move(random)) {
  SHOAL_CHECK(!options_.canary_prompt.empty());
}

// ---- Ranks ----

RegisterOutcome Region::Register(ConnectionId connection, const RankRegistration& rank) {
  if (stopping_) return {RegisterOutcome::Kind::kRetry, "this coordinator is stopping"};
  RegisterOutcome outcome = groups_.Register(connection, rank);
  if (outcome.kind == RegisterOutcome::Kind::kAccepted) {
    Group& group = groups_.at(outcome.group);
    if (group.complete()) StartCanary(group);
  }
  return outcome;
}

Group* Region::FindGroup(ConnectionId connection, uint64_t epoch) {
  Group* group = groups_.FindByConnection(connection);
  return group != nullptr && group->epoch == epoch ? group : nullptr;
}

bool Region::Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress, bool pending) {
  if (FindGroup(connection, epoch) == nullptr) return false;
  health_.Heartbeat(connection, progress, pending);
  return true;
}

bool Region::Update(ConnectionId connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                    const SchedulerStats& stats) {
  Group* group = FindGroup(connection, epoch);
  if (group == nullptr || group->FindRank(connection)->info.rank != 0) return false;
  const uint64_t number = group->number;
  const ModelKey key = group->key;
  groups_.ApplyStats(*group, stats);
  for (SequenceUpdate& update : updates) {
    const std::string fault = FindFault(*group, update);
    if (!fault.empty()) {
      // A leader that answers what it was not asked cannot be trusted with the rest.
      LoseGroup(*group, Str(Name(group->ranks[0]->info), " broke the protocol: ", fault));
      return true;
    }
    if (IsCanary(*group, update)) {
      ApplyCanary(*group, update);
      if (groups_.Find(number) == nullptr) return true;
    } else {
      ApplyUpdate(*group, std::move(update));
    }
  }
  Dispatch(key);
  return true;
}

std::string Region::FindFault(const Group& group, const SequenceUpdate& update) {
  std::string fault = group.FindFault(update);
  if (!fault.empty()) return fault;
  if (IsCanary(group, update)) return group.canary->FindFault(update);
  const std::optional<StreamId> id = streams_.FindId(update.id);
  return id ? streams_.Find(*id)->FindFault(update) : "";
}

void Region::StartCanary(Group& group) {
  group.state = GroupState::kCanary;
  const Canary& canary =
      group.canary.emplace(streams_.TakeSequence(), options_.canary_prompt, group.shape());
  group.sequences.insert(canary.sequence);
  actions_.emplace_back(SubmitAction{
      group.leader(),
      group.epoch,
      {.id = canary.sequence, .prompt = canary.request.prompt, .params = canary.request.params}});
}

void Region::ApplyCanary(Group& group, const SequenceUpdate& update) {
  group.canary->Apply(update);
  if (update.finish == FinishReason::kNone) return;
  std::string fault = group.canary->FindBadEnd(update);
  const std::string digest = group.canary->Digest();
  if (fault.empty()) {
    fault = FindDigestFault(group.key, digest, groups_.ExpectedDigest(group.key));
  }
  if (!fault.empty()) return LoseGroup(group, fault);
  group.sequences.erase(update.id);
  // The group may have been dismissed meanwhile.
  if (group.state != GroupState::kCanary) return;
  groups_.SetReady(group, digest);
  actions_.emplace_back(GroupReadyAction{group.number, group.Name(), group.key,
                                         *ChooseVersion(groups_.models(), group.key.name)});
}

void Region::ApplyUpdate(Group& group, SequenceUpdate update) {
  const bool ends = update.finish != FinishReason::kNone;
  if (ends) group.sequences.erase(update.id);
  const std::optional<StreamId> found = streams_.FindId(update.id);
  if (!found) return;  // Cancelled here; nobody listens.
  const StreamId id = *found;
  if (update.finish == FinishReason::kCancelled) {
    if (update.detail.empty()) {
      FailStream(id, BusyReason::kGroupLost, Str(group.Name(), " gave the request up"));
    } else {
      FailStream(id, BusyReason::kRefused, Str("refused by the group: ", update.detail));
    }
    return;
  }
  streams_.Find(id)->Apply(update);
  if (!update.tokens.empty()) {
    actions_.emplace_back(JournalAction{id, JournalTokens{update.tokens}});
  }
  actions_.emplace_back(DeliverAction{id, std::move(update)});
  if (ends) EndStream(id);
}

void Region::Disconnected(ConnectionId connection, const std::string& why) {
  Group* group = groups_.FindByConnection(connection);
  if (group == nullptr) return;
  const auto count = std::count_if(group->ranks.begin(), group->ranks.end(),
                                   [](const auto& rank) { return rank.has_value(); });
  if (group->state == GroupState::kStopping && count > 1) {
    // The ranks of a dismissed group end one by one; closing on the others could overtake the
    // leader's own word to them.
    groups_.RemoveRank(connection);
    return;
  }
  LoseGroup(*group, Str(Name(group->FindRank(connection)->info), ": ", why));
}

void Region::LoseGroup(Group& group, const std::string& why) {
  const std::string message = Str(group.Name(), " was lost: ", why);
  for (const SequenceId sequence : group.sequences) {
    const std::optional<StreamId> id = streams_.FindId(sequence);
    if (id) FailStream(*id, BusyReason::kGroupLost, message);
  }
  if (group.state != GroupState::kStopping) {
    ++group_losses_total_;
    actions_.emplace_back(GroupLostAction{group.number, LossCause::kRankDied, message});
  }
  const ModelKey key = group.key;
  RemoveGroup(group.number, why);
  Dispatch(key);
}

void Region::RemoveGroup(uint64_t number, const std::string& why) {
  const Group group = groups_.Remove(number, why);
  for (const auto& rank : group.ranks) {
    if (rank) actions_.emplace_back(CloseAction{rank->connection, Str(group.Name(), " is out")});
  }
}

// ---- Streams ----

std::variant<StreamId, StreamError> Region::Submit(Request request) {
  if (stopping_) return MakeStreamError(BusyReason::kDraining, "this coordinator is stopping");
  auto admitted = Admit(std::move(request), options_, groups_, streams_);
  if (auto* refusal = std::get_if<StreamError>(&admitted)) return std::move(*refusal);
  ++requests_total_;
  const StreamId id = streams_.Add(std::get<Stream>(std::move(admitted)));
  const Stream& stream = *streams_.Find(id);
  actions_.emplace_back(JournalAction{id, JournalBegin{stream.request, stream.key}});
  Dispatch(ModelKey(stream.key));
  return id;
}

void Region::Cancel(StreamId id) {
  const Stream* stream = streams_.Find(id);
  if (stream == nullptr) return;
  if (stream->group) {
    const Group& group = groups_.at(*stream->group);
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, stream->sequence});
  }
  EndStream(id);
}

void Region::FailStream(StreamId id, BusyReason reason, const std::string& message) {
  actions_.emplace_back(FailAction{id, MakeStreamError(reason, message)});
  EndStream(id);
}

void Region::EndStream(StreamId id) {
  streams_.Remove(id);
  actions_.emplace_back(JournalAction{id, JournalEnd{}});
}

void Region::Dispatch(const ModelKey& key) {
  const bool some_ready = CountReady(groups_.all(), key) > 0;
  const int64_t largest = LargestKvCacheTokens(groups_.all(), key);
  // One pass in order, of a copy, because what is served leaves the queue: a request passes one
  // whose turn is before its own only where that one does not fit.
  for (const Turn turn : std::set<Turn>(streams_.waiting(key).turns())) {
    const StreamId id = streams_.waiting(key).at(turn);
    const int64_t needed = streams_.Find(id)->tokens_needed;
    if (!some_ready) {
      FailStream(id, BusyReason::kNoGroup,
                 Str("the last group of workers with ", key, " was lost"));
    } else if (needed > largest) {
      // It was not too large when it came: whoever comes again is told, or finds a group.
      FailStream(id, BusyReason::kGroupLost,
                 Str("the groups that are left have ", largest, " tokens of KV cache, needed are ",
                     needed));
    } else if (const auto number = ChooseGroup(groups_.all(), key, needed)) {
      Group& group = groups_.at(*number);
      const Stream& stream = streams_.Place(id, *number);
      group.sequences.insert(stream.sequence);
      actions_.emplace_back(SubmitAction{group.leader(),
                                         group.epoch,
                                         {.id = stream.sequence,
                                          .prompt = stream.request.prompt,
                                          .params = stream.request.params,
                                          .generated = stream.tokens,
                                          .prompt_logprobs_given = stream.prompt_logprobs_left == 0,
                                          .stream = id,
                                          .resumable = stream.request.resumable}});
    }
  }
}

// ---- Time and the end ----

void Region::Tick() {
  for (const Health::Loss& loss : health_.Tick(groups_.all())) {
    LoseGroup(groups_.at(loss.group), loss.why);
  }
  if (++ticks_total_ % kTicksPerCheck != 0) return;
  const std::string broken = FindBrokenInvariant();
  SHOAL_CHECK(broken.empty(), broken);
}

std::string Region::FindBrokenInvariant() const {
  return core::FindBrokenInvariant(groups_, streams_, options_);
}

void Region::Stop() {
  if (stopping_) return;
  stopping_ = true;
  while (!streams_.all().empty()) {
    FailStream(streams_.all().begin()->first, BusyReason::kDraining,
               "this coordinator is stopping");
  }
  for (const auto& [number, group] : GroupMap(groups_.all())) {
    if (group.ranks[0].has_value()) {
      groups_.SetStopping(groups_.at(number));
      actions_.emplace_back(StopAction{group.leader(), group.epoch});
    } else {
      // Without a leader there is nobody to dismiss.
      RemoveGroup(number, "the coordinator is stopping");
    }
  }
}

std::vector<Action> Region::TakeActions() { return std::exchange(actions_, {}); }

// ---- What others may know ----

std::vector<ServedModel> Region::models() const { return ListModels(options_, groups_, streams_); }

RegionStatus Region::status() const {
  RegionStatus status;
  for (const auto& [number, group] : groups_.all()) status.groups.push_back(group.Status());
  status.models = models();
  status.requests_waiting = static_cast<int32_t>(streams_.waiting_count());
  status.requests_total = requests_total_;
  status.streams_live = static_cast<int64_t>(streams_.all().size());
  status.group_losses_total = group_losses_total_;
  status.totals = groups_.totals();
  return status;
}

size_t Region::groups_ready() const { return CountReady(groups_.all()); }

}  // namespace shoal::core
