#include "transport/rpc/convert.h"

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

void WriteLogitBias(const std::vector<LogitBias>& from, wire::SamplingParams::Builder to) {
  if (from.empty()) return;
  const auto count = static_cast<unsigned>(from.size());
  auto ids = to.initBiasIds(count);
  auto biases = to.initBiases(count);
  for (unsigned i = 0; i < count; ++i) {
    ids.set(i, from[i].token);
    biases.set(i, from[i].bias);
  }
}

std::vector<LogitBias> ReadLogitBias(wire::SamplingParams::Reader from) {
  const auto ids = from.getBiasIds();
  const auto biases = from.getBiases();
  if (ids.size() != biases.size()) {
    Throw(ErrorCode::kInvalidArgument, "logit biases: expected one value for each of ", ids.size(),
          " ids, found ", biases.size());
  }
  std::vector<LogitBias> to(ids.size());
  for (unsigned i = 0; i < ids.size(); ++i) to[i] = {ids[i], biases[i]};
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

wire::GrammarKind ToWire(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::kNone:
      return wire::GrammarKind::NONE;
    case GrammarKind::kJsonObject:
      return wire::GrammarKind::JSON_OBJECT;
    case GrammarKind::kJsonSchema:
      return wire::GrammarKind::JSON_SCHEMA;
    case GrammarKind::kRegex:
      return wire::GrammarKind::REGEX;
    case GrammarKind::kChoice:
      return wire::GrammarKind::CHOICE;
  }
  return wire::GrammarKind::NONE;
}

// A kind that this build does not know must not become an answer without structure.
GrammarKind FromWire(wire::GrammarKind kind) {
  switch (kind) {
    case wire::GrammarKind::NONE:
      return GrammarKind::kNone;
    case wire::GrammarKind::JSON_OBJECT:
      return GrammarKind::kJsonObject;
    case wire::GrammarKind::JSON_SCHEMA:
      return GrammarKind::kJsonSchema;
    case wire::GrammarKind::REGEX:
      return GrammarKind::kRegex;
    case wire::GrammarKind::CHOICE:
      return GrammarKind::kChoice;
  }
  Throw(ErrorCode::kInvalidArgument, "unknown grammar kind ", static_cast<int>(kind));
}

}  // namespace

std::string ToString(::capnp::Text::Reader text) { return {text.begin(), text.size()}; }

std::vector<int32_t> ReadTokens(::capnp::List<int32_t>::Reader list) {
  std::vector<int32_t> tokens(list.size());
  for (unsigned i = 0; i < list.size(); ++i) tokens[i] = list[i];
  return tokens;
}

void Write(const GenerationParams& params, wire::GenerationParams::Builder to) {
  auto sampling = to.initSampling();
  sampling.setTemperature(params.sampling.temperature);
  sampling.setTopK(params.sampling.top_k);
  sampling.setTopP(params.sampling.top_p);
  sampling.setMinP(params.sampling.min_p);
  sampling.setSeed(params.sampling.seed);
  sampling.setChoice(params.sampling.choice);
  sampling.setTypicalP(params.sampling.typical_p);
  sampling.setRepetitionPenalty(params.sampling.repetition_penalty);
  sampling.setFrequencyPenalty(params.sampling.frequency_penalty);
  sampling.setPresencePenalty(params.sampling.presence_penalty);
  WriteLogitBias(params.sampling.logit_bias, sampling);
  sampling.setMinTokens(params.sampling.min_tokens);
  to.setTokensMax(params.tokens_max);
  WriteTokens(params.stop_ids, [&](unsigned size) { return to.initStopIds(size); });
  to.setPromptLogprobs(params.prompt_logprobs);
  to.setTopLogprobs(params.top_logprobs);
  to.setPriority(params.priority);
  to.setCacheSalt(params.cache_salt);
  to.setGrammarKind(ToWire(params.grammar.kind));
  to.setGrammar(params.grammar.text);
}

GenerationParams Read(wire::GenerationParams::Reader from) {
  GenerationParams params;
  const auto sampling = from.getSampling();
  params.sampling.temperature = sampling.getTemperature();
  params.sampling.top_k = sampling.getTopK();
  params.sampling.top_p = sampling.getTopP();
  params.sampling.min_p = sampling.getMinP();
  params.sampling.seed = sampling.getSeed();
  params.sampling.choice = sampling.getChoice();
  params.sampling.typical_p = sampling.getTypicalP();
  params.sampling.repetition_penalty = sampling.getRepetitionPenalty();
  params.sampling.frequency_penalty = sampling.getFrequencyPenalty();
  params.sampling.presence_penalty = sampling.getPresencePenalty();
  params.sampling.logit_bias = ReadLogitBias(sampling);
  params.sampling.min_tokens = sampling.getMinTokens();
  params.tokens_max = from.getTokensMax();
  params.stop_ids = ReadTokens(from.getStopIds());
  params.prompt_logprobs = from.getPromptLogprobs();
  params.top_logprobs = from.getTopLogprobs();
  params.priority = from.getPriority();
  params.cache_salt = ToString(from.getCacheSalt());
  params.grammar.kind = FromWire(from.getGrammarKind());
  params.grammar.text = ToString(from.getGrammar());
  return params;
}

void Write(const SequenceUpdate& update, wire::SequenceUpdate::Builder to) {
  to.setId(update.id);
  WriteTokens(update.tokens, [&](unsigned size) { return to.initTokens(size); });
  WriteLogprobs(update.logprobs, to.initLogprobs());
  WriteLogprobs(update.prompt_logprobs, to.initPromptLogprobs());
  to.setFinish(ToWire(update.finish));
  to.setDetail(update.detail);
  to.setCachedTokens(update.cached_tokens);
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
  return update;
}

void Write(const RankRegistration& rank, wire::RankRegistration::Builder to) {
  to.setGroupId(rank.group_id);
  to.setRank(rank.rank);
  to.setSize(rank.size);
  to.setTensorParallel(rank.tensor_parallel);
  to.setPipelineParallel(rank.pipeline_parallel);
  to.setHost(rank.host);
  to.setPid(rank.pid);
  to.setIsa(rank.isa);
  to.setThreadCount(rank.thread_count);
  to.setModelName(rank.model_name);
  to.setNumericsId(rank.numerics_id);
  to.setContextTokens(rank.context_tokens);
  to.setKvCacheTokens(rank.kv_cache_tokens);
  to.setSequencesMax(rank.sequences_max);
  to.setQueueRequestsMax(rank.queue_requests_max);
  to.setVocabSize(rank.vocab_size);
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
  return rank;
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
  return stats;
}

void Write(const GenerateRequest& request, wire::GenerateRequest::Builder to) {
  auto prompt = to.initPrompt();
  if (!request.chat.empty()) {
    auto chat = prompt.initChat(static_cast<unsigned>(request.chat.size()));
    for (unsigned i = 0; i < request.chat.size(); ++i) {
      chat[i].setRole(request.chat[i].role);
      chat[i].setContent(request.chat[i].content);
    }
  } else if (!request.text.empty()) {
    prompt.setText(request.text);
  } else {
    WriteTokens(request.tokens, [&](unsigned size) { return prompt.initTokens(size); });
  }
  Write(request.params, to.initParams());
  to.setSeedGiven(request.seed_given);
  to.setModel(request.model);
}

GenerateRequest Read(wire::GenerateRequest::Reader from) {
  GenerateRequest request;
  const auto prompt = from.getPrompt();
  switch (prompt.which()) {
    case wire::GenerateRequest::Prompt::TOKENS:
      request.tokens = ReadTokens(prompt.getTokens());
      break;
    case wire::GenerateRequest::Prompt::TEXT:
      request.text = ToString(prompt.getText());
      break;
    case wire::GenerateRequest::Prompt::CHAT:
      for (const auto message : prompt.getChat()) {
        request.chat.push_back({ToString(message.getRole()), ToString(message.getContent())});
      }
      break;
  }
  request.params = Read(from.getParams());
  request.seed_given = from.getSeedGiven();
  request.model = ToString(from.getModel());
  return request;
}

void Write(const ModelInfo& model, wire::ModelInfo::Builder to) {
  to.setName(model.name);
  to.setNumericsId(model.numerics_id);
  to.setContextTokens(model.context_tokens);
  to.setKvCacheTokens(model.kv_cache_tokens);
  to.setGroupsReady(model.groups_ready);
  to.setRequestsWaiting(model.requests_waiting);
  to.setCanaryDigest(model.canary_digest);
}

ModelInfo Read(wire::ModelInfo::Reader from) {
  return {ToString(from.getName()),        ToString(from.getNumericsId()),
          from.getContextTokens(),         from.getKvCacheTokens(),
          from.getGroupsReady(),           from.getRequestsWaiting(),
          ToString(from.getCanaryDigest())};
}

void Write(const StatusInfo& status, wire::Status::Builder to) {
  auto groups = to.initGroups(static_cast<unsigned>(status.groups.size()));
  for (unsigned i = 0; i < status.groups.size(); ++i) {
    const GroupInfo& from = status.groups[i];
    groups[i].setGroup(from.group);
    groups[i].setEpoch(from.epoch);
    groups[i].setName(from.name);
    groups[i].setModelName(from.model_name);
    groups[i].setNumericsId(from.numerics_id);
    groups[i].setTensorParallel(from.tensor_parallel);
    groups[i].setPipelineParallel(from.pipeline_parallel);
    auto ranks = groups[i].initRanks(static_cast<unsigned>(from.ranks.size()));
    for (unsigned j = 0; j < from.ranks.size(); ++j) ranks.set(j, from.ranks[j]);
    groups[i].setReady(from.ready);
    Write(from.stats, groups[i].initStats());
  }
  to.setRequestsWaiting(status.requests_waiting);
  to.setRequestsTotal(status.requests_total);
  to.setStreamsLive(status.streams_live);
  to.setGroupLossesTotal(status.group_losses_total);
}

StatusInfo Read(wire::Status::Reader from) {
  StatusInfo status;
  for (const auto group : from.getGroups()) {
    GroupInfo& to = status.groups.emplace_back();
    to.group = group.getGroup();
    to.epoch = group.getEpoch();
    to.name = ToString(group.getName());
    to.model_name = ToString(group.getModelName());
    to.numerics_id = ToString(group.getNumericsId());
    to.tensor_parallel = group.getTensorParallel();
    to.pipeline_parallel = group.getPipelineParallel();
    for (const auto rank : group.getRanks()) to.ranks.push_back(ToString(rank));
    to.ready = group.getReady();
    to.stats = Read(group.getStats());
  }
  status.requests_waiting = from.getRequestsWaiting();
  status.requests_total = from.getRequestsTotal();
  status.streams_live = from.getStreamsLive();
  status.group_losses_total = from.getGroupLossesTotal();
  return status;
}

}  // namespace shoal::rpc
