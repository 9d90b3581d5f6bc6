#include "coordinator/core/region.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

namespace {

// Enough for the stragglers of a group that was lost a moment ago.
constexpr size_t kLostIdsMax = 256;

}  // namespace

Region::Region(RegionOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock), last_tick_(clock.now()) {
  SHOAL_CHECK(!options_.canary_prompt.empty());
}

// ---- Ranks ----

RegisterOutcome Region::Register(ConnectionId connection, const RankRegistration& rank) {
  SHOAL_CHECK(!ranks_.contains(connection), "connection ", connection);
  const std::string fault = shoal::core::FindFault(rank);
  if (!fault.empty()) {
    return {RegisterOutcome::Kind::kMismatch, Str(Name(rank), " registered badly: ", fault)};
  }
  Group* group = FindGroupById(rank.group_id);
  RegisterOutcome refusal = FindRefusal(rank, group);
  if (refusal.kind != RegisterOutcome::Kind::kAccepted) return refusal;

  if (group == nullptr) group = &AddGroup(rank);
  auto& place = group->ranks[static_cast<size_t>(rank.rank)];
  place = GroupRank{};
  place->connection = connection;
  place->info = rank;
  ranks_[connection] = {group->number, rank.rank};
  if (group->complete()) StartCanary(*group);
  return {RegisterOutcome::Kind::kAccepted, "", group->epoch, group->number};
}

RegisterOutcome Region::FindRefusal(const RankRegistration& rank, const Group* group) const {
  using Kind = RegisterOutcome::Kind;
  if (stopping_) return {Kind::kRetry, "this coordinator is stopping"};
  if (std::find(lost_ids_.begin(), lost_ids_.end(), rank.group_id) != lost_ids_.end()) {
    return {Kind::kStale, Str("the group of ", Name(rank),
                              " was given up: end all its ranks and start a new group")};
  }
  if (!options_.model_name.empty() && rank.model_name != options_.model_name) {
    return {Kind::kMismatch, Str("this region serves model ", options_.model_name, ", ", Name(rank),
                                 " has ", rank.model_name, ": give both the same --model")};
  }
  if (model_ && rank.model_name != model_->model_name) {
    return {Kind::kMismatch, Str("this region serves model ", model_->model_name, ", ", Name(rank),
                                 " has ", rank.model_name)};
  }
  if (model_ && rank.numerics_id != model_->numerics_id) {
    return {Kind::kMismatch,
            Str("this region's numerics id is ", model_->numerics_id, ", ", Name(rank), " has ",
                rank.numerics_id, ": use the same model file and KV cache type everywhere")};
  }
  if (model_ &&
      (rank.context_tokens != model_->context_tokens || rank.vocab_size != model_->vocab_size)) {
    return {Kind::kMismatch,
            Str("this region's groups have a context of ", model_->context_tokens, " tokens and ",
                model_->vocab_size, " token ids, ", Name(rank), " has ", rank.context_tokens,
                " and ", rank.vocab_size, ": give all groups the same --context-tokens-max")};
  }
  if (group == nullptr) return {};
  const std::string difference = FindDifference(group->shape(), rank);
  if (!difference.empty()) {
    return {Kind::kMismatch,
            Str(Name(rank), " differs from the other ranks of ", group->Name(), ": ", difference)};
  }
  if (group->ranks[static_cast<size_t>(rank.rank)].has_value()) {
    return {Kind::kMismatch, Str(Name(rank), " registered twice in ", group->Name())};
  }
  return {};
}

Group* Region::FindGroupById(uint64_t group_id) {
  for (auto& [number, group] : groups_) {
    if (group.shape().group_id == group_id) return &group;
  }
  return nullptr;
}

Group& Region::AddGroup(const RankRegistration& rank) {
  uint64_t number = 0;
  while (groups_.contains(number)) ++number;
  Group& group = groups_[number];
  group.number = number;
  group.epoch = next_epoch_++;
  group.ranks.resize(static_cast<size_t>(rank.size));
  if (!model_) model_ = rank;
  return group;
}

GroupRank* Region::FindRank(ConnectionId connection, uint64_t epoch) {
  const auto place = ranks_.find(connection);
  if (place == ranks_.end()) return nullptr;
  Group& group = groups_.at(place->second.group);
  if (group.epoch != epoch) return nullptr;
  return &*group.ranks[static_cast<size_t>(place->second.rank)];
}

bool Region::Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress, bool pending) {
  GroupRank* rank = FindRank(connection, epoch);
  if (rank == nullptr) return false;
  rank->silence_ns = 0;
  if (!pending || !rank->pending || progress != rank->progress) rank->stuck_ns = 0;
  rank->progress = progress;
  rank->pending = pending;
  return true;
}

bool Region::Update(ConnectionId connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                    const SchedulerStats& stats) {
  const GroupRank* rank = FindRank(connection, epoch);
  if (rank == nullptr || rank->info.rank != 0) return false;
  const uint64_t number = ranks_.at(connection).group;
  ApplyStats(groups_.at(number), stats);
  for (SequenceUpdate& update : updates) {
    Group& group = groups_.at(number);
    const std::string fault = FindFault(group, update);
    if (!fault.empty()) {
      // A leader that answers what it was not asked cannot be trusted with the rest.
      LoseGroup(number, Str(Name(rank->info), " broke the protocol: ", fault));
      return true;
    }
    if (update.id == group.canary) {
      ApplyCanary(group, update);
      if (!groups_.contains(number)) return true;
    } else {
      ApplyUpdate(group, std::move(update));
    }
  }
  Dispatch();
  return true;
}

std::string Region::FindFault(const Group& group, const SequenceUpdate& update) const {
  const auto sequence = group.sequences.find(update.id);
  if (sequence == group.sequences.end()) {
    return Str("sequence ", update.id, " is not one of its own");
  }
  for (const int32_t token : update.tokens) {
    if (token < 0 || token >= group.shape().vocab_size) {
      return Str("token ", token, " of sequence ", update.id, " is not in the vocabulary of ",
                 group.shape().vocab_size);
    }
  }
  const auto stream = streams_.find(update.id);
  if (stream == streams_.end()) return "";
  const GenerationParams& params = stream->second.params;
  const int64_t tokens = sequence->second + static_cast<int64_t>(update.tokens.size());
  if (tokens > params.tokens_max) {
    return Str("sequence ", update.id, " has ", tokens, " tokens, at most ", params.tokens_max,
               " were asked for");
  }
  const size_t logprobs = params.top_logprobs >= 0 ? update.tokens.size() : 0;
  if (update.logprobs.size() != logprobs) {
    return Str("sequence ", update.id, " has ", update.logprobs.size(), " log-probabilities, ",
               logprobs, " were expected");
  }
  // They come in parts, before the first token.
  const auto prompt_logprobs = static_cast<int64_t>(update.prompt_logprobs.size());
  const int64_t left = stream->second.prompt_logprobs_left - prompt_logprobs;
  const bool all_due = !update.tokens.empty() || update.finish == FinishReason::kStop ||
                       update.finish == FinishReason::kLength;
  if (left < 0 || (left > 0 && all_due)) {
    return Str("sequence ", update.id, " has ", prompt_logprobs,
               " log-probabilities of its prompt, ", stream->second.prompt_logprobs_left,
               all_due ? "" : " or fewer", " were expected");
  }
  return "";
}

void Region::StartCanary(Group& group) {
  group.state = GroupState::kCanary;
  group.canary = next_stream_++;
  group.sequences[group.canary] = 0;
  GenerationParams params;
  params.sampling.temperature = 0;
  params.tokens_max = 1;
  // A toy vocabulary or context may be smaller than the canary's.
  std::vector<int32_t> prompt = options_.canary_prompt;
  for (int32_t& token : prompt) token = std::min(token, group.shape().vocab_size - 1);
  const int64_t tokens = std::min(group.shape().context_tokens, group.shape().kv_cache_tokens) - 1;
  prompt.resize(static_cast<size_t>(
      std::clamp<int64_t>(tokens, 1, static_cast<int64_t>(options_.canary_prompt.size()))));
  actions_.push_back(SubmitAction{group.ranks[0]->connection, group.epoch, group.canary,
                                  std::move(prompt), params});
}

void Region::ApplyCanary(Group& group, const SequenceUpdate& update) {
  int64_t& tokens = group.sequences.at(update.id);
  tokens += static_cast<int64_t>(update.tokens.size());
  if (update.finish == FinishReason::kNone) return;
  const bool finished =
      update.finish == FinishReason::kStop || update.finish == FinishReason::kLength;
  if (tokens != 1 || !finished) {
    LoseGroup(group.number, Str("its canary brought ", tokens, " tokens instead of 1 and ended by ",
                                ToString(update.finish), " ", update.detail));
    return;
  }
  group.sequences.erase(update.id);
  // The group may have been dismissed meanwhile.
  if (group.state != GroupState::kCanary) return;
  group.state = GroupState::kReady;
  model_proven_ = true;
  actions_.push_back(GroupReadyAction{group.number, group.Name()});
}

void Region::ApplyUpdate(Group& group, SequenceUpdate update) {
  const bool ends = update.finish != FinishReason::kNone;
  const StreamId id = update.id;
  const auto stream = streams_.find(id);
  group.sequences.at(id) += static_cast<int64_t>(update.tokens.size());
  if (ends) group.sequences.erase(id);
  if (stream == streams_.end()) return;  // Cancelled here; nobody listens.
  if (update.finish == FinishReason::kCancelled) {
    if (update.detail.empty()) {
      FailStream(id, BusyReason::kGroupLost, Str(group.Name(), " gave the request up"));
    } else {
      FailStream(id, BusyReason::kRefused, Str("refused by the group: ", update.detail));
    }
    return;
  }
  stream->second.prompt_logprobs_left -= static_cast<int64_t>(update.prompt_logprobs.size());
  if (ends) streams_.erase(stream);
  actions_.push_back(DeliverAction{id, std::move(update)});
}

void Region::ApplyStats(Group& group, const SchedulerStats& stats) {
  for (const auto counter : kSchedulerCounters) {
    // The first update of a group that has served another coordinator counts what was done there.
    if (group.stats)
      totals_.*counter += std::max<int64_t>(0, stats.*counter - (*group.stats).*counter);
  }
  group.stats = stats;
}

void Region::Disconnected(ConnectionId connection, const std::string& why) {
  const auto place = ranks_.find(connection);
  if (place == ranks_.end()) return;
  const uint64_t number = place->second.group;
  Group& group = groups_.at(number);
  auto& rank = group.ranks[static_cast<size_t>(place->second.rank)];
  const auto count = std::count_if(group.ranks.begin(), group.ranks.end(),
                                   [](const auto& other) { return other.has_value(); });
  if (group.state == GroupState::kStopping && count > 1) {
    // The ranks of a dismissed group end one by one; closing on the others could overtake the
    // leader's own word to them.
    rank.reset();
    ranks_.erase(place);
    return;
  }
  LoseGroup(number, Str(Name(rank->info), ": ", why));
}

void Region::LoseGroup(uint64_t number, const std::string& why) {
  const auto found = groups_.find(number);
  Group& group = found->second;
  const std::string message = Str(group.Name(), " was lost: ", why);
  const bool dismissed = group.state == GroupState::kStopping;
  std::vector<StreamId> lost;
  for (const auto& [id, tokens] : group.sequences) {
    if (streams_.contains(id)) lost.push_back(id);
  }
  for (const StreamId id : lost) FailStream(id, BusyReason::kGroupLost, message);
  if (!dismissed) {
    ++group_losses_total_;
    actions_.push_back(GroupLostAction{number, message});
  }
  RemoveGroup(found);
  Dispatch();
}

void Region::RemoveGroup(std::map<uint64_t, Group>::iterator group) {
  lost_ids_.push_back(group->second.shape().group_id);
  if (lost_ids_.size() > kLostIdsMax) lost_ids_.pop_front();
  for (const auto& rank : group->second.ranks) {
    if (!rank) continue;
    actions_.push_back(CloseAction{rank->connection, Str(group->second.Name(), " is out")});
    ranks_.erase(rank->connection);
  }
  groups_.erase(group);
  // A group that never worked does not decide for those that come after it.
  if (groups_.empty() && !model_proven_) model_.reset();
}

// ---- Streams ----

StreamId Region::Submit(std::vector<int32_t> prompt, const GenerationParams& params,
                        StreamError& error) {
  SHOAL_CHECK(!prompt.empty());
  error = {};
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  // Subtracted rather than added: tokens_max is the user's.
  const int64_t room = ContextTokens() - prompt_tokens;
  const int64_t tokens_max = std::min(params.tokens_max, room);
  const int64_t needed = prompt_tokens + tokens_max;
  if (stopping_) {
    error = MakeStreamError(BusyReason::kDraining, "this coordinator is stopping");
  } else if (groups_ready() == 0) {
    error = MakeStreamError(BusyReason::kNoGroup, "no group of workers is ready");
  } else if (room < std::min<int64_t>(params.tokens_max, 1)) {
    error = MakeStreamError(
        BusyReason::kTooLarge,
        Str("the prompt has ", prompt_tokens, " tokens, the context ", ContextTokens(),
            params.tokens_max > 0 ? " with at least one for the answer" : "",
            ": shorten the prompt"));
  } else if (needed > LargestKvCacheTokens()) {
    error = MakeStreamError(
        BusyReason::kTooLarge,
        Str("prompt and answer may need ", needed, " tokens of KV cache, the largest group has ",
            LargestKvCacheTokens(),
            ": ask for fewer tokens, or raise --kv-cache-tokens or --kv-cache-bytes-max"));
  } else if (waiting_.size() >= static_cast<size_t>(options_.queue_requests_max) &&
             ChooseGroup(needed) == nullptr) {
    error = MakeStreamError(BusyReason::kQueueFull, Str("all groups are full and ", waiting_.size(),
                                                        " requests wait already"));
  }
  if (error.reason != BusyReason::kNone) return 0;

  const StreamId id = next_stream_++;
  Stream& stream = streams_[id] = {std::move(prompt), params, needed, std::nullopt,
                                   params.prompt_logprobs ? prompt_tokens - 1 : 0};
  // A group may have a longer context than this region grants.
  SamplingParams& sampling = stream.params.sampling;
  stream.params.tokens_max = tokens_max;
  sampling.min_tokens = std::min(sampling.min_tokens, tokens_max);
  ++requests_total_;
  waiting_.Add({params.priority, id}, id);
  Dispatch();
  return id;
}

void Region::Cancel(StreamId id) {
  const auto stream = streams_.find(id);
  if (stream == streams_.end()) return;
  if (stream->second.group) {
    const Group& group = groups_.at(*stream->second.group);
    actions_.push_back(CancelAction{group.ranks[0]->connection, group.epoch, id});
  } else {
    waiting_.Remove(id);
  }
  streams_.erase(stream);
}

void Region::FailStream(StreamId id, BusyReason reason, const std::string& message) {
  streams_.erase(id);
  actions_.push_back(FailAction{id, MakeStreamError(reason, message)});
}

void Region::Dispatch() {
  const bool some_ready = groups_ready() > 0;
  const int64_t largest = LargestKvCacheTokens();
  // One pass in order, of a copy, because what is served leaves the queue: a request passes one
  // whose turn is before its own only where that one does not fit.
  for (const Turn turn : std::set<Turn>(waiting_.turns())) {
    const StreamId id = waiting_.at(turn);
    Stream& stream = streams_.at(id);
    if (!some_ready) {
      waiting_.Remove(id);
      FailStream(id, BusyReason::kNoGroup, "the last group of workers was lost");
    } else if (stream.tokens_needed > largest) {
      waiting_.Remove(id);
      // It was not too large when it came: whoever comes again is told, or finds a group.
      FailStream(id, BusyReason::kGroupLost,
                 Str("the groups that are left have ", largest, " tokens of KV cache, needed are ",
                     stream.tokens_needed));
    } else if (Group* group = ChooseGroup(stream.tokens_needed); group != nullptr) {
      waiting_.Serve(turn);
      stream.group = group->number;
      group->sequences[id] = 0;
      actions_.push_back(SubmitAction{group->ranks[0]->connection, group->epoch, id,
                                      std::exchange(stream.prompt, {}), stream.params});
    }
  }
}

Group* Region::ChooseGroup(int64_t tokens) {
  Group* best = nullptr;
  for (auto& [number, group] : groups_) {
    if (!group.HasRoomFor(tokens)) continue;
    // a / b < c / d as a * d < c * b; strictly, so that the lowest number wins a tie.
    if (best == nullptr ||
        group.sequences.size() * best->capacity() < best->sequences.size() * group.capacity()) {
      best = &group;
    }
  }
  return best;
}

// ---- Time and the end ----

void Region::Tick() {
  const TimeNs interval = options_.heartbeat_ms * kMillisecondNs;
  const TimeNs elapsed = std::clamp<TimeNs>(clock_.now() - last_tick_, 0, 2 * interval);
  last_tick_ = clock_.now();
  std::vector<std::pair<uint64_t, std::string>> lost;
  for (auto& [number, group] : groups_) {
    group.age_ns += elapsed;
    std::string why;
    if ((group.state == GroupState::kForming || group.state == GroupState::kCanary) &&
        group.age_ns > options_.join_timeout_ms * kMillisecondNs) {
      why = Str("not ready within ", options_.join_timeout_ms,
                " ms: ", group.complete() ? "no canary token" : "not all ranks joined");
    }
    for (auto& rank : group.ranks) {
      if (!rank) continue;
      rank->silence_ns += elapsed;
      if (rank->pending) rank->stuck_ns += elapsed;
      if (rank->silence_ns > interval * options_.heartbeats_missed_max) {
        why =
            Str(Name(rank->info), ": no heartbeat for ", rank->silence_ns / kMillisecondNs, " ms");
      } else if (rank->stuck_ns > options_.progress_timeout_ms * kMillisecondNs) {
        why = Str(Name(rank->info), ": no progress for ", rank->stuck_ns / kMillisecondNs,
                  " ms with work pending");
      }
    }
    if (!why.empty()) lost.emplace_back(number, why);
  }
  for (const auto& [number, why] : lost) LoseGroup(number, why);
}

void Region::Stop() {
  if (stopping_) return;
  stopping_ = true;
  waiting_.Clear();
  std::vector<StreamId> ids;
  for (const auto& [id, stream] : streams_) ids.push_back(id);
  for (const StreamId id : ids) {
    FailStream(id, BusyReason::kDraining, "this coordinator is stopping");
  }
  for (auto group = groups_.begin(); group != groups_.end();) {
    const auto next = std::next(group);
    if (group->second.ranks[0].has_value()) {
      group->second.state = GroupState::kStopping;
      actions_.push_back(StopAction{group->second.ranks[0]->connection, group->second.epoch});
    } else {
      RemoveGroup(group);  // Without a leader there is nobody to dismiss.
    }
    group = next;
  }
}

std::vector<Action> Region::TakeActions() { return std::exchange(actions_, {}); }

// ---- What others may know ----

ServedModel Region::model() const {
  ServedModel model;
  model.name = model_ ? model_->model_name : options_.model_name;
  if (!options_.served_model_name.empty()) model.name = options_.served_model_name;
  if (model_) {
    model.numerics_id = model_->numerics_id;
    model.vocab_size = model_->vocab_size;
  }
  model.context_tokens = ContextTokens();
  model.kv_cache_tokens = LargestKvCacheTokens();
  model.requests_max = RequestsMax();
  return model;
}

RegionStatus Region::status() const {
  RegionStatus status;
  for (const auto& [number, group] : groups_) status.groups.push_back(group.Status());
  status.requests_waiting = static_cast<int32_t>(waiting_.size());
  status.requests_total = requests_total_;
  status.streams_live = static_cast<int64_t>(streams_.size());
  status.group_losses_total = group_losses_total_;
  status.totals = totals_;
  return status;
}

size_t Region::groups_ready() const {
  return static_cast<size_t>(std::count_if(groups_.begin(), groups_.end(), [](const auto& entry) {
    return entry.second.state == GroupState::kReady;
  }));
}

int64_t Region::ContextTokens() const {
  if (!model_) return options_.context_tokens_max;
  if (options_.context_tokens_max == 0) return model_->context_tokens;
  return std::min(options_.context_tokens_max, model_->context_tokens);
}

int64_t Region::LargestKvCacheTokens() const {
  int64_t largest = 0;
  for (const auto& [number, group] : groups_) {
    if (group.state == GroupState::kReady) {
      largest = std::max(largest, group.shape().kv_cache_tokens);
    }
  }
  return largest;
}

int64_t Region::RequestsMax() const {
  int64_t held = 0;
  for (const auto& [number, group] : groups_) {
    if (group.state == GroupState::kReady) held += static_cast<int64_t>(group.capacity());
  }
  return held == 0 ? 0 : held + options_.queue_requests_max;
}

}  // namespace shoal::core
