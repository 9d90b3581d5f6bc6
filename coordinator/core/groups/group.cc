#include "coordinator/core/groups/group.h"

#include <algorithm>
#include <string_view>

#include "transport/base/check.h"

namespace shoal::core {

namespace {

// Far beyond any group, so that a registration cannot make the coordinator reserve memory for it.
constexpr int32_t kRanksMax = 4096;

}  // namespace

const RankRegistration& Group::shape() const {
  const auto first =
      std::find_if(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.has_value(); });
  SHOAL_CHECK(first != ranks.end(), "group ", number, " has no rank");
  return (*first)->info;
}

bool Group::complete() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.has_value(); });
}

const GroupRank* Group::FindRank(ConnectionId connection) const {
  for (const auto& rank : ranks) {
    if (rank && !rank->away && rank->connection == connection) return &*rank;
  }
  return nullptr;
}

bool Group::CanaryWaits() const {
  const size_t others = sequences.size() - (has_canary() ? 1 : 0);
  return wants_canary() && others >= static_cast<size_t>(shape().sequences_max);
}

size_t Group::capacity() const {
  return static_cast<size_t>(shape().sequences_max) +
         static_cast<size_t>(shape().queue_requests_max);
}

bool Group::HasPlace() const {
  return ranks_away == 0 && !quiet && !full && sequences.size() < capacity();
}

bool Group::HasRoomFor(int64_t tokens, ServiceClass service_class) const {
  if (given_max && sequences.size() - (has_canary() ? 1 : 0) >= *given_max) return false;
  return state == GroupState::kReady && !canary_due && !shaped && HasPlace() &&
         tokens <= shape().kv_cache_tokens && load.CountStreams(service_class) < streams_max;
}

void Group::Give(SequenceId sequence, const GivenWork& work) {
  sequences.insert(sequence);
  load.Give(sequence, work);
}

bool Group::LacksKvCache() const {
  // Requests that have just come wait for a moment, too: only with most blocks in use is it memory.
  return stats && stats->requests_waiting > 0 && stats->sequences_running < shape().sequences_max &&
         2 * stats->kv_blocks_used > stats->kv_blocks_total;
}

void Group::Forget(SequenceId sequence) {
  sequences.erase(sequence);
  load.Forget(sequence);
  if (rejoin) rejoin->unconfirmed.erase(sequence);
  if (trial == sequence) trial.reset();
}

void Group::NoteRoom(const SequenceUpdate& update) {
  if (update.finish != FinishReason::kNone) full = update.no_room;
  if (!update.no_room) {
    full_for_ticks = 0;
  } else if (sequences.size() == 1 && sequences.contains(update.id)) {
    ++full_for_ticks;
  }
}

std::string Group::Name() const {
  return Str("group ", number, " (epoch ", epoch, ", ", shape().host, ", tensor ",
             shape().tensor_parallel, " x pipeline ", shape().pipeline_parallel, ")");
}

std::string Group::RankNames() const {
  std::string names;
  for (const std::optional<GroupRank>& rank : ranks) {
    if (rank) names += Str(names.empty() ? "" : ", ", core::Name(rank->info));
  }
  return names;
}

GroupStatus Group::Status() const {
  GroupStatus status;
  status.group = number;
  status.epoch = epoch;
  status.name = Name();
  status.model_name = key.name;
  status.numerics_id = key.numerics_id;
  status.tensor_parallel = shape().tensor_parallel;
  status.pipeline_parallel = shape().pipeline_parallel;
  for (size_t i = 0; i < ranks.size(); ++i) {
    RankStatus& rank = status.ranks.emplace_back();
    rank.rank = static_cast<int32_t>(i);
    rank.state = ranks[i] && !ranks[i]->away ? "joined" : "missing";
    if (!ranks[i]) continue;
    const RankRegistration& info = ranks[i]->info;
    rank.pid = info.pid;
    rank.host = info.host;
    rank.isa = info.isa;
    rank.threads = info.thread_count;
    rank.device = "cpu";
  }
  status.state = state;
  status.streams = static_cast<int64_t>(sequences.size());
  status.ejected = given_max.has_value();
  status.stats = stats.value_or(SchedulerStats{});
  return status;
}

std::string Group::FindFault(const SequenceUpdate& update) const {
  if (!sequences.contains(update.id)) {
    return Str("sequence ", update.id, " is not one of its own");
  }
  for (const int32_t token : update.tokens) {
    if (token < 0 || token >= shape().vocab_size) {
      return Str("token ", token, " of sequence ", update.id, " is not in the vocabulary of ",
                 shape().vocab_size);
    }
  }
  return "";
}

std::string Name(const RankRegistration& rank) {
  return Str("rank ", rank.rank, " (", rank.host, ", pid ", rank.pid, ")");
}

std::string FindFault(const RankRegistration& rank) {
  const auto fault = [](std::string_view field, int64_t found, const std::string& expected) {
    return Str(field, " is ", found, ", expected ", expected);
  };
  if (rank.size < 1 || rank.size > kRanksMax) {
    return fault("size", rank.size, Str("1 to ", kRanksMax));
  }
  if (rank.rank < 0 || rank.rank >= rank.size) {
    return fault("rank", rank.rank, Str("0 to ", rank.size - 1));
  }
  // In 64 bits, because both factors are a stranger's.
  const int64_t product = int64_t{rank.tensor_parallel} * rank.pipeline_parallel;
  if (rank.tensor_parallel < 1 || rank.pipeline_parallel < 1 || product != rank.size) {
    return fault("tensor_parallel x pipeline_parallel", product, Str("the ", rank.size, " ranks"));
  }
  if (rank.sequences_max < 1) return fault("sequences_max", rank.sequences_max, "at least 1");
  if (rank.queue_requests_max < 0) {
    return fault("queue_requests_max", rank.queue_requests_max, "at least 0");
  }
  if (rank.context_tokens < 1) return fault("context_tokens", rank.context_tokens, "at least 1");
  if (rank.kv_cache_tokens < 1) return fault("kv_cache_tokens", rank.kv_cache_tokens, "at least 1");
  if (rank.vocab_size < 1) return fault("vocab_size", rank.vocab_size, "at least 1");
  return "";
}

std::string FindDifference(const RankRegistration& expected, const RankRegistration& found) {
  const auto difference = [](std::string_view field, const auto& a, const auto& b) {
    return a == b ? std::string() : Str(field, ": expected ", a, ", found ", b);
  };
  for (const std::string& message :
       {difference("model name", expected.model_name, found.model_name),
        difference("numerics id", expected.numerics_id, found.numerics_id),
        difference("size", expected.size, found.size),
        difference("tensor_parallel", expected.tensor_parallel, found.tensor_parallel),
        difference("pipeline_parallel", expected.pipeline_parallel, found.pipeline_parallel),
        difference("context_tokens", expected.context_tokens, found.context_tokens),
        difference("kv_cache_tokens", expected.kv_cache_tokens, found.kv_cache_tokens),
        difference("sequences_max", expected.sequences_max, found.sequences_max),
        difference("queue_requests_max", expected.queue_requests_max, found.queue_requests_max),
        difference("vocab_size", expected.vocab_size, found.vocab_size)}) {
    if (!message.empty()) return message;
  }
  return "";
}

}  // namespace shoal::core
