#include "transport/rpc/convert/convert.h"

#include <algorithm>

#include "transport/base/error.h"

namespace shoal::rpc {

namespace {

void WriteLogprobs(const std::vector<TokenLogprobs>& from, wire::TokenLogprobs::Builder to) {
  if (from.empty()) return;
  const auto count = static_cast<unsigned>(from.size());
  const auto top = static_cast<unsigned>(from.front().top.size());
  auto own = to.initOwn(count);
  auto ids = to.initTopIds(count * top);
  auto logprobs = to.initTopLogprobs(count * top);
  to.setTopCount(top);
  for (unsigned i = 0; i < count; ++i) {
    SHOAL_CHECK(from[i].top.size() == top, "position ", i, " has ", from[i].top.size());
    own.set(i, from[i].logprob);
    for (unsigned j = 0; j < top; ++j) {
      ids.set(i * top + j, from[i].top[j].first);
      logprobs.set(i * top + j, from[i].top[j].second);
    }
  }
}

std::vector<TokenLogprobs> ReadLogprobs(wire::TokenLogprobs::Reader from) {
  const auto own = from.getOwn();
  const auto ids = from.getTopIds();
  const auto logprobs = from.getTopLogprobs();
  const uint64_t expected = uint64_t{own.size()} * from.getTopCount();
  if (ids.size() != expected || logprobs.size() != expected) {
    Throw(ErrorCode::kInvalidArgument, "log-probabilities of ", own.size(), " positions: expected ",
          expected, " alternatives, found ", ids.size(), " ids and ", logprobs.size(), " values");
  }
  std::vector<TokenLogprobs> to(own.size());
  for (unsigned i = 0; i < own.size(); ++i) {
    to[i].logprob = own[i];
    to[i].top.reserve(from.getTopCount());
    for (unsigned j = i * from.getTopCount(); j < (i + 1) * from.getTopCount(); ++j) {
      to[i].top.emplace_back(ids[j], logprobs[j]);
    }
  }
  return to;
}

wire::FinishReason ToWire(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return wire::FinishReason::NONE;
    case FinishReason::kStop:
      return wire::FinishReason::STOP;
    case FinishReason::kLength:
      return wire::FinishReason::LENGTH;
    case FinishReason::kCancelled:
      return wire::FinishReason::CANCELLED;
    case FinishReason::kNumericError:
      return wire::FinishReason::NUMERIC_ERROR;
  }
  return wire::FinishReason::NONE;
}

FinishReason FromWire(wire::FinishReason reason) {
  switch (reason) {
    case wire::FinishReason::NONE:
      return FinishReason::kNone;
    case wire::FinishReason::STOP:
      return FinishReason::kStop;
    case wire::FinishReason::LENGTH:
      return FinishReason::kLength;
    case wire::FinishReason::CANCELLED:
      return FinishReason::kCancelled;
    case wire::FinishReason::NUMERIC_ERROR:
      return FinishReason::kNumericError;
  }
  Throw(ErrorCode::kInvalidArgument, "unknown finish reason ", static_cast<int>(reason));
}

// What a submit and a held stream say alike.
template <typename Builder>
void WriteRequest(const SequenceRequest& request, Builder& to) {
  to.setId(request.id);
  WriteTokens(request.prompt, [&](unsigned size) { return to.initPrompt(size); });
  Write(request.params, to.initParams());
  WriteTokens(request.generated, [&](unsigned size) { return to.initGenerated(size); });
  to.setPromptLogprobsGiven(request.prompt_logprobs_given);
  to.setStreamHigh(request.stream.high);
  to.setStreamLow(request.stream.low);
  to.setServiceClass(static_cast<uint8_t>(request.service_class));
  to.setDeadlineMs(request.deadline_ms);
  to.setTenant(ToText(request.tenant));
}

ServiceClass ReadClass(uint8_t number) {
  if (number < kServiceClasses) return static_cast<ServiceClass>(number);
  Throw(ErrorCode::kInvalidArgument, "a sequence's service class is ", int{number},
        ": expected 0 to ", kServiceClasses - 1);
}

template <typename Reader>
SequenceRequest ReadRequest(const Reader& from) {
  SequenceRequest request;
  request.id = from.getId();
  request.prompt = ReadTokens(from.getPrompt());
  request.params = Read(from.getParams());
  request.generated = ReadTokens(from.getGenerated());
  request.prompt_logprobs_given = from.getPromptLogprobsGiven();
  request.stream = {from.getStreamHigh(), from.getStreamLow()};
  request.service_class = ReadClass(from.getServiceClass());
  request.deadline_ms = from.getDeadlineMs();
  request.tenant = ToString(from.getTenant());
  return request;
}

template <typename Counts>
void WriteCounts(const Counts& counts, ::capnp::List<int64_t>::Builder to) {
  for (unsigned i = 0; i < counts.size(); ++i) to.set(i, counts[i]);
}

// Of a list that another release made longer or shorter, what both know.
template <typename Counts>
void ReadCounts(::capnp::List<int64_t>::Reader from, Counts& counts) {
  for (unsigned i = 0; i < std::min<size_t>(from.size(), counts.size()); ++i) counts[i] = from[i];
}

}  // namespace

std::string ToString(::capnp::Text::Reader text) { return {text.begin(), text.size()}; }

::capnp::Text::Reader ToText(const std::string& text) { return {text.c_str(), text.size()}; }

std::vector<int32_t> ReadTokens(::capnp::List<int32_t>::Reader list) {
  std::vector<int32_t> tokens(list.size());
  for (unsigned i = 0; i < list.size(); ++i) tokens[i] = list[i];
  return tokens;
}

void Write(const SequenceUpdate& update, wire::SequenceUpdate::Builder to) {
  to.setId(update.id);
  WriteTokens(update.tokens, [&](unsigned size) { return to.initTokens(size); });
  WriteLogprobs(update.logprobs, to.initLogprobs());
  WriteLogprobs(update.prompt_logprobs, to.initPromptLogprobs());
  to.setFinish(ToWire(update.finish));
  to.setDetail(ToText(update.detail));
  to.setCachedTokens(update.cached_tokens);
  to.setTokensBefore(update.tokens_before);
  to.setPromptLogprobsBefore(update.prompt_logprobs_before);
  to.setResumes(update.resumes);
  to.setNoRoom(update.no_room);
  to.setPreemptions(update.preemptions);
}

SequenceUpdate Read(wire::SequenceUpdate::Reader from) {
  SequenceUpdate update;
  update.id = from.getId();
  update.tokens = ReadTokens(from.getTokens());
  update.logprobs = ReadLogprobs(from.getLogprobs());
  update.prompt_logprobs = ReadLogprobs(from.getPromptLogprobs());
  update.finish = FromWire(from.getFinish());
  update.detail = ToString(from.getDetail());
  update.cached_tokens = from.getCachedTokens();
  update.tokens_before = from.getTokensBefore();
  update.prompt_logprobs_before = from.getPromptLogprobsBefore();
  update.resumes = from.getResumes();
  update.no_room = from.getNoRoom();
  update.preemptions = from.getPreemptions();
  return update;
}

void Write(const SequenceRequest& request, wire::Leader::SubmitParams::Builder to) {
  WriteRequest(request, to);
  to.setResumable(request.resumable);
}

SequenceRequest Read(wire::Leader::SubmitParams::Reader from) {
  SequenceRequest request = ReadRequest(from);
  request.resumable = from.getResumable();
  return request;
}

void Write(const HeldStream& held, wire::HeldStream::Builder to) {
  WriteRequest(held.request, to);
  Write(held.all, to.initAll());
}

HeldStream Read(wire::HeldStream::Reader from) {
  HeldStream held{ReadRequest(from), Read(from.getAll())};
  held.request.resumable = true;
  return held;
}

void Write(const RankRegistration& rank, wire::RankRegistration::Builder to) {
  to.setGroupId(rank.group_id);
  to.setRank(rank.rank);
  to.setSize(rank.size);
  to.setTensorParallel(rank.tensor_parallel);
  to.setPipelineParallel(rank.pipeline_parallel);
  to.setHost(ToText(rank.host));
  to.setPid(rank.pid);
  to.setIsa(ToText(rank.isa));
  to.setThreadCount(rank.thread_count);
  to.setModelName(ToText(rank.model_name));
  to.setNumericsId(ToText(rank.numerics_id));
  to.setContextTokens(rank.context_tokens);
  to.setKvCacheTokens(rank.kv_cache_tokens);
  to.setSequencesMax(rank.sequences_max);
  to.setQueueRequestsMax(rank.queue_requests_max);
  to.setVocabSize(rank.vocab_size);
  to.setGroupNumber(rank.group_number ? static_cast<int64_t>(*rank.group_number) : -1);
  to.setLastEpoch(rank.last_epoch);
}

RankRegistration Read(wire::RankRegistration::Reader from) {
  RankRegistration rank;
  rank.group_id = from.getGroupId();
  rank.rank = from.getRank();
  rank.size = from.getSize();
  rank.tensor_parallel = from.getTensorParallel();
  rank.pipeline_parallel = from.getPipelineParallel();
  rank.host = ToString(from.getHost());
  rank.pid = from.getPid();
  rank.isa = ToString(from.getIsa());
  rank.thread_count = from.getThreadCount();
  rank.model_name = ToString(from.getModelName());
  rank.numerics_id = ToString(from.getNumericsId());
  rank.context_tokens = from.getContextTokens();
  rank.kv_cache_tokens = from.getKvCacheTokens();
  rank.sequences_max = from.getSequencesMax();
  rank.queue_requests_max = from.getQueueRequestsMax();
  rank.vocab_size = from.getVocabSize();
  if (from.getGroupNumber() >= 0) rank.group_number = static_cast<uint64_t>(from.getGroupNumber());
  rank.last_epoch = from.getLastEpoch();
  return rank;
}

void Write(const PrefixReport& report, wire::PrefixReport::Builder to) {
  to.setFull(report.full);
  auto added = to.initAdded(static_cast<unsigned>(report.added.size()));
  for (unsigned i = 0; i < report.added.size(); ++i) added.set(i, report.added[i]);
  auto removed = to.initRemoved(static_cast<unsigned>(report.removed.size()));
  for (unsigned i = 0; i < report.removed.size(); ++i) removed.set(i, report.removed[i]);
}

PrefixReport Read(wire::PrefixReport::Reader from) {
  PrefixReport report{.full = from.getFull()};
  for (const uint64_t hash : from.getAdded()) report.added.push_back(hash);
  for (const uint64_t hash : from.getRemoved()) report.removed.push_back(hash);
  return report;
}

void Write(const SchedulerStats& stats, wire::SchedulerStats::Builder to) {
  to.setStepsTotal(stats.steps_total);
  to.setSequencesRunning(stats.sequences_running);
  to.setRequestsWaiting(stats.requests_waiting);
  to.setKvBlocksUsed(stats.kv_blocks_used);
  to.setKvBlocksTotal(stats.kv_blocks_total);
  to.setKvBlocksKept(stats.kv_blocks_kept);
  to.setPrefixCacheQueriesTotal(stats.prefix_cache_queries_total);
  to.setPrefixCacheQueryTokensTotal(stats.prefix_cache_query_tokens_total);
  to.setPrefixCacheHitTokensTotal(stats.prefix_cache_hit_tokens_total);
  to.setPreemptionsTotal(stats.preemptions_total);
  to.setDraftedTokensTotal(stats.drafted_tokens_total);
  to.setAcceptedTokensTotal(stats.accepted_tokens_total);
  to.setPromptRowsLeft(stats.prompt_rows_left);
  to.setTokensLeft(stats.tokens_left);
  to.setPromptRowsTotal(stats.prompt_rows_total);
  to.setGeneratedTokensTotal(stats.generated_tokens_total);
  to.setBusyUsTotal(stats.busy_us_total);
}

SchedulerStats Read(wire::SchedulerStats::Reader from) {
  SchedulerStats stats;
  stats.steps_total = from.getStepsTotal();
  stats.sequences_running = from.getSequencesRunning();
  stats.requests_waiting = from.getRequestsWaiting();
  stats.kv_blocks_used = from.getKvBlocksUsed();
  stats.kv_blocks_total = from.getKvBlocksTotal();
  stats.kv_blocks_kept = from.getKvBlocksKept();
  stats.prefix_cache_queries_total = from.getPrefixCacheQueriesTotal();
  stats.prefix_cache_query_tokens_total = from.getPrefixCacheQueryTokensTotal();
  stats.prefix_cache_hit_tokens_total = from.getPrefixCacheHitTokensTotal();
  stats.preemptions_total = from.getPreemptionsTotal();
  stats.drafted_tokens_total = from.getDraftedTokensTotal();
  stats.accepted_tokens_total = from.getAcceptedTokensTotal();
  stats.prompt_rows_left = from.getPromptRowsLeft();
  stats.tokens_left = from.getTokensLeft();
  stats.prompt_rows_total = from.getPromptRowsTotal();
  stats.generated_tokens_total = from.getGeneratedTokensTotal();
  stats.busy_us_total = from.getBusyUsTotal();
  return stats;
}

void Write(const RequestTerms& terms, wire::GenerateRequest::Builder to) {
  to.setName(ToText(terms.name));
  if (terms.service_class) to.setServiceClass(std::string(ToString(*terms.service_class)));
  to.setDeadlineMs(terms.deadline_ms);
  to.setAttempt(terms.attempt);
  to.setSession(ToText(terms.session));
  to.setMayDegrade(terms.may_degrade);
}

RequestTerms ReadTerms(wire::GenerateRequest::Reader from) {
  RequestTerms terms{.name = ToString(from.getName()),
                     .deadline_ms = from.getDeadlineMs(),
                     .attempt = from.getAttempt(),
                     .session = ToString(from.getSession()),
                     .may_degrade = from.getMayDegrade()};
  const std::string service_class = ToString(from.getServiceClass());
  if (!service_class.empty()) terms.service_class = ParseServiceClass(service_class);
  if (!service_class.empty() && !terms.service_class) {
    Throw(ErrorCode::kInvalidArgument, "serviceClass is '", service_class,
          "': expected critical_plus, critical, sheddable_plus or sheddable");
  }
  CheckTerms(terms);
  return terms;
}

void Write(const GenerateRequest& request, wire::GenerateRequest::Builder to) {
  auto prompt = to.initPrompt();
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&request.prompt)) {
    WriteTokens(*tokens, [&](unsigned size) { return prompt.initTokens(size); });
  } else if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    prompt.setText(ToText(*text));
  } else {
    const auto& messages = std::get<Conversation>(request.prompt);
    auto chat = prompt.initChat(static_cast<unsigned>(messages.size()));
    for (unsigned i = 0; i < messages.size(); ++i) {
      chat[i].setRole(ToText(messages[i].role));
      chat[i].setContent(ToText(messages[i].content));
      if (messages[i].name) chat[i].setName(ToText(*messages[i].name));
      chat[i].setToolCalls(ToText(messages[i].tool_calls));
      if (messages[i].tool_call_id) chat[i].setToolCallId(ToText(*messages[i].tool_call_id));
      if (messages[i].reasoning) chat[i].setReasoning(ToText(*messages[i].reasoning));
    }
  }
  to.setTools(ToText(request.chat.tools));
  to.setTemplateVariables(ToText(request.chat.variables));
  to.setContinuesLast(request.chat.continues_last);
  to.setBeginsAnswer(request.chat.begins_answer);
  Write(request.params, to.initParams());
  to.setSeedGiven(request.seed_given);
  to.setModel(ToText(request.model));
  to.setResumable(request.resumable);
  to.setCursor(ToText(request.cursor));
  to.setTokensTaken(request.tokens_taken);
  to.setPromptLogprobsTaken(request.prompt_logprobs_taken);
  Write(request.terms, to);
}

GenerateRequest Read(wire::GenerateRequest::Reader from) {
  GenerateRequest request;
  const auto prompt = from.getPrompt();
  switch (prompt.which()) {
    case wire::GenerateRequest::Prompt::TOKENS:
      request.prompt = ReadTokens(prompt.getTokens());
      break;
    case wire::GenerateRequest::Prompt::TEXT:
      request.prompt = ToString(prompt.getText());
      break;
    case wire::GenerateRequest::Prompt::CHAT: {
      Conversation chat;
      for (const auto from_message : prompt.getChat()) {
        ChatMessage& message = chat.emplace_back();
        message.role = ToString(from_message.getRole());
        message.content = ToString(from_message.getContent());
        if (from_message.hasName()) message.name = ToString(from_message.getName());
        message.tool_calls = ToString(from_message.getToolCalls());
        if (from_message.hasToolCallId()) {
          message.tool_call_id = ToString(from_message.getToolCallId());
        }
        if (from_message.hasReasoning()) message.reasoning = ToString(from_message.getReasoning());
      }
      request.prompt = std::move(chat);
      break;
    }
  }
  request.chat = {.tools = ToString(from.getTools()),
                  .variables = ToString(from.getTemplateVariables()),
                  .continues_last = from.getContinuesLast(),
                  .begins_answer = from.getBeginsAnswer()};
  request.params = Read(from.getParams());
  request.seed_given = from.getSeedGiven();
  request.model = ToString(from.getModel());
  request.resumable = from.getResumable();
  request.cursor = ToString(from.getCursor());
  request.tokens_taken = from.getTokensTaken();
  request.prompt_logprobs_taken = from.getPromptLogprobsTaken();
  request.terms = ReadTerms(from);
  return request;
}

void Write(const StreamError& error, wire::Busy::Builder to) {
  to.setReason(std::string(ToString(error.reason)));
  to.setMessage(ToText(error.message));
  to.setRetryAfterMs(error.retry_after_ms);
  to.setPredictedWaitMs(error.predicted_wait_ms);
}

void Write(const ServedModel& model, wire::ModelInfo::Builder to) {
  to.setName(ToText(model.name));
  to.setNumericsId(ToText(model.numerics_id));
  to.setContextTokens(model.context_tokens);
  to.setKvCacheTokens(model.kv_cache_tokens);
  to.setGroupsReady(model.groups_ready);
  to.setRequestsWaiting(model.requests_waiting);
  to.setCanaryDigest(ToText(model.canary_digest));
  to.setVocabSize(model.vocab_size);
  to.setRequestsMax(model.requests_max);
  to.setModelName(ToText(model.model_name));
}

ServedModel Read(wire::ModelInfo::Reader from) {
  return {.name = ToString(from.getName()),
          .numerics_id = ToString(from.getNumericsId()),
          .context_tokens = from.getContextTokens(),
          .kv_cache_tokens = from.getKvCacheTokens(),
          .vocab_size = from.getVocabSize(),
          .requests_max = from.getRequestsMax(),
          .model_name = ToString(from.getModelName()),
          .canary_digest = ToString(from.getCanaryDigest()),
          .groups_ready = from.getGroupsReady(),
          .requests_waiting = from.getRequestsWaiting()};
}

void Write(const RankStatus& rank, wire::RankStatus::Builder to) {
  to.setRank(rank.rank);
  to.setPid(rank.pid);
  to.setHost(ToText(rank.host));
  to.setIsa(ToText(rank.isa));
  to.setThreads(rank.threads);
  to.setState(ToText(rank.state));
  to.setDevice(ToText(rank.device));
}

RankStatus Read(wire::RankStatus::Reader from) {
  return {.rank = from.getRank(),
          .pid = from.getPid(),
          .host = ToString(from.getHost()),
          .isa = ToString(from.getIsa()),
          .threads = from.getThreads(),
          .state = ToString(from.getState()),
          .device = ToString(from.getDevice())};
}

void Write(const GroupStatus& group, wire::GroupStatus::Builder to) {
  to.setGroup(group.group);
  to.setEpoch(group.epoch);
  to.setName(ToText(group.name));
  to.setModelName(ToText(group.model_name));
  to.setNumericsId(ToText(group.numerics_id));
  to.setTensorParallel(group.tensor_parallel);
  to.setPipelineParallel(group.pipeline_parallel);
  auto ranks = to.initRanks(static_cast<unsigned>(group.ranks.size()));
  for (unsigned i = 0; i < group.ranks.size(); ++i) Write(group.ranks[i], ranks[i]);
  to.setState(static_cast<wire::GroupState>(group.state));
  Write(group.stats, to.initStats());
  to.setManaged(group.managed);
  to.setStreams(group.streams);
  to.setLastLoss(ToText(group.last_loss));
  to.setRestartsTotal(group.restarts_total);
  to.setNextStartMs(group.next_start_ms);
  to.setEjected(group.ejected);
}

GroupStatus Read(wire::GroupStatus::Reader from) {
  GroupStatus group;
  group.group = from.getGroup();
  group.epoch = from.getEpoch();
  group.name = ToString(from.getName());
  group.model_name = ToString(from.getModelName());
  group.numerics_id = ToString(from.getNumericsId());
  group.tensor_parallel = from.getTensorParallel();
  group.pipeline_parallel = from.getPipelineParallel();
  for (const auto rank : from.getRanks()) group.ranks.push_back(Read(rank));
  group.state = static_cast<GroupState>(from.getState());
  group.stats = Read(from.getStats());
  group.managed = from.getManaged();
  group.streams = from.getStreams();
  group.last_loss = ToString(from.getLastLoss());
  group.restarts_total = from.getRestartsTotal();
  group.next_start_ms = from.getNextStartMs();
  group.ejected = from.getEjected();
  return group;
}

void Write(const RegionStatus& status, wire::Status::Builder to) {
  auto groups = to.initGroups(static_cast<unsigned>(status.groups.size()));
  for (unsigned i = 0; i < status.groups.size(); ++i) Write(status.groups[i], groups[i]);
  auto models = to.initModels(static_cast<unsigned>(status.models.size()));
  for (unsigned i = 0; i < status.models.size(); ++i) Write(status.models[i], models[i]);
  Write(status.totals, to.initTotals());
  to.setRequestsWaiting(status.requests_waiting);
  to.setRequestsTotal(status.requests_total);
  to.setRequestsCoalescedTotal(status.requests_coalesced_total);
  to.setStreamsLive(status.streams_live);
  to.setGroupLossesTotal(status.group_losses_total);
  WriteCounts(status.group_losses, to.initGroupLosses(status.group_losses.size()));
  WriteCounts(status.streams_resumed, to.initStreamsResumed(status.streams_resumed.size()));
  to.setStreamsAdoptedTotal(status.streams_adopted_total);
  to.setGroupRestartsTotal(status.group_restarts_total);
  WriteCounts(status.stalls, to.initStalls(status.stalls.size()));
  to.setStallSecondsSum(status.stall_seconds_sum);
  auto breakers = to.initBreakers(static_cast<unsigned>(status.breakers.size()));
  for (unsigned i = 0; i < status.breakers.size(); ++i) {
    breakers[i].setRule(ToText(status.breakers[i].rule));
    breakers[i].setOpen(status.breakers[i].open);
  }
  WriteCounts(status.requests_rejected, to.initRequestsRejected(status.requests_rejected.size()));
}

RegionStatus Read(wire::Status::Reader from) {
  RegionStatus status;
  for (const auto group : from.getGroups()) status.groups.push_back(Read(group));
  for (const auto model : from.getModels()) status.models.push_back(Read(model));
  status.totals = Read(from.getTotals());
  status.requests_waiting = from.getRequestsWaiting();
  status.requests_total = from.getRequestsTotal();
  status.requests_coalesced_total = from.getRequestsCoalescedTotal();
  status.streams_live = from.getStreamsLive();
  status.group_losses_total = from.getGroupLossesTotal();
  ReadCounts(from.getGroupLosses(), status.group_losses);
  ReadCounts(from.getStreamsResumed(), status.streams_resumed);
  status.streams_adopted_total = from.getStreamsAdoptedTotal();
  status.group_restarts_total = from.getGroupRestartsTotal();
  ReadCounts(from.getStalls(), status.stalls);
  status.stall_seconds_sum = from.getStallSecondsSum();
  for (const auto breaker : from.getBreakers()) {
    status.breakers.push_back({ToString(breaker.getRule()), breaker.getOpen()});
  }
  ReadCounts(from.getRequestsRejected(), status.requests_rejected);
  return status;
}

}  // namespace shoal::rpc
