#include "tests/coordinator/core/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>

namespace shoal::core {

std::function<uint64_t()> MakeTestRandom(uint64_t seed) { return std::mt19937_64(seed); }

RankRegistration MakeRank(uint64_t group_id, int32_t rank, int32_t tensor_parallel,
                          int32_t pipeline_parallel) {
  RankRegistration registration;
  registration.group_id = group_id;
  registration.rank = rank;
  registration.size = tensor_parallel * pipeline_parallel;
  registration.tensor_parallel = tensor_parallel;
  registration.pipeline_parallel = pipeline_parallel;
  registration.host = "node7";
  registration.pid = 4000 + rank;
  registration.isa = "scalar";
  registration.thread_count = 1;
  registration.model_name = "toy";
  registration.numerics_id = "00112233445566778899aabbccddeeff";
  registration.context_tokens = 64;
  registration.kv_cache_tokens = 256;
  registration.sequences_max = 2;
  registration.queue_requests_max = 1;
  registration.vocab_size = 100;
  return registration;
}

SubmitAction SubmitOf(const Canary& canary) {
  return {0, 0, {canary.sequence, canary.request.prompt, canary.request.params}};
}

SequenceUpdate AnswerCanary(const SubmitAction& canary, uint32_t flipped_bits) {
  const auto logprobs = [&](size_t position) {
    const float logprob = -0.125F * static_cast<float>(position + 1);
    TokenLogprobs logprobs{logprob, {{7, logprob}, {3, -5.5F}}};
    for (int32_t id = 10; std::ssize(logprobs.top) < canary.request.params.top_logprobs; ++id) {
      logprobs.top.emplace_back(id, -6.5F);
    }
    return logprobs;
  };
  SequenceUpdate update;
  update.id = canary.request.id;
  const size_t positions = canary.request.prompt.size() - 1;
  for (size_t i = 0; i < positions; ++i) update.prompt_logprobs.push_back(logprobs(i));
  const auto tokens = static_cast<size_t>(canary.request.params.tokens_max);
  for (size_t i = 0; i < tokens; ++i) update.logprobs.push_back(logprobs(positions + i));
  float& last = update.logprobs.back().top.back().second;
  last = std::bit_cast<float>(std::bit_cast<uint32_t>(last) ^ flipped_bits);
  update.tokens.assign(tokens, 7);
  update.finish = FinishReason::kLength;
  return update;
}

std::string CanaryDigestOf(const RankRegistration& rank) {
  Canary canary(1, RegionOptions().canary_prompt, rank);
  canary.Apply(AnswerCanary(SubmitOf(canary)));
  return canary.Digest();
}

Group MakeReadyGroup(uint64_t number) {
  Group group;
  group.number = number;
  group.epoch = number + 1;
  group.state = GroupState::kReady;
  group.key = KeyOf(MakeRank(number));
  group.ranks.push_back(GroupRank{number, MakeRank(number)});
  return group;
}

void RegionInvariants::Submitted(StreamId stream) {
  EXPECT_TRUE(known_.insert(stream).second) << "stream " << stream << " was given out twice";
  open_.insert(stream);
  heard_[stream] = 0;
}

void RegionInvariants::Resumed(StreamId stream) {
  known_.insert(stream);
  open_.insert(stream);
  heard_[stream] = 0;
}

void RegionInvariants::Cancelled(StreamId stream) { open_.erase(stream); }

void RegionInvariants::Detached(StreamId stream) { open_.erase(stream); }

void RegionInvariants::End(StreamId stream) {
  EXPECT_EQ(open_.erase(stream), 1u) << "stream " << stream << " ended twice, or after its cancel";
}

// Every stream that somebody listens to has exactly one end, and nothing after it. What is shown is
// in the journal, and whoever listens hears it from the first token on, each once.
void RegionInvariants::Observe(const std::vector<Action>& actions) {
  for (const Action& action : actions) {
    if (const auto* deliver = std::get_if<DeliverAction>(&action)) {
      ObserveDelivery(*deliver);
    } else if (const auto* fail = std::get_if<FailAction>(&action)) {
      EXPECT_FALSE(fail->error.message.empty());
      End(fail->stream);
    } else if (const auto* journal = std::get_if<JournalAction>(&action)) {
      const store::JournalEntry* entry = journal_.Find(journal->stream);
      if (entry != nullptr) past_[journal->stream] = entry->tokens;
      journal_.Apply(*journal);
    }
  }
}

void RegionInvariants::ObserveDelivery(const DeliverAction& deliver) {
  const SequenceUpdate& update = deliver.update;
  // A listener that has left may be told a little more in the same turn.
  if (!open_.contains(deliver.stream)) return;
  const store::JournalEntry* entry = journal_.Find(deliver.stream);
  const std::vector<int32_t>& known = entry != nullptr ? entry->tokens : past_[deliver.stream];
  auto& heard = heard_[deliver.stream];
  EXPECT_EQ(update.tokens_before, heard) << "stream " << deliver.stream;
  heard += std::ssize(update.tokens);
  ASSERT_GE(std::ssize(known), heard) << "the journal lacks tokens of stream " << deliver.stream;
  EXPECT_TRUE(
      std::equal(update.tokens.begin(), update.tokens.end(), known.begin() + update.tokens_before))
      << "the journal has other tokens of stream " << deliver.stream;
  if (update.finish != FinishReason::kNone) End(deliver.stream);
}

void RegionInvariants::Check(const Region& region) {
  EXPECT_EQ(region.FindBrokenInvariant(), "");
  CheckStreams(region);
  CheckGrowth(region);
}

// The region knows exactly the streams that somebody listens to, or may want later, and with the
// journal alone each could be continued where it stands.
void RegionInvariants::CheckStreams(const Region& region) {
  EXPECT_EQ(journal_.size(), region.streams().size());
  size_t listened = 0;
  for (const auto& [id, stream] : region.streams()) {
    const store::JournalEntry* entry = journal_.Find(id);
    ASSERT_NE(entry, nullptr) << "stream " << id;
    EXPECT_EQ(open_.contains(id), !stream.detached_since) << "stream " << id;
    if (!stream.detached_since) ++listened;
    EXPECT_EQ(entry->request, stream.request) << "stream " << id;
    EXPECT_EQ(entry->tokens, stream.tokens) << "stream " << id;
    EXPECT_EQ(entry->key, stream.key) << "stream " << id;
  }
  EXPECT_EQ(open_.size(), listened);
}

void RegionInvariants::CheckGrowth(const Region& region) {
  for (const auto& [number, group] : region.groups()) {
    EXPECT_GE(group.epoch, epochs_[number]) << "group " << number << " went back in time";
    epochs_[number] = group.epoch;
  }
  // The status is text for people, and dear; what only grows can be looked at now and then.
  if (++checks_ % 64 != 0) return;
  const RegionStatus status = region.status();
  EXPECT_GE(status.requests_total, requests_total_);
  EXPECT_GE(status.group_losses_total, group_losses_total_);
  for (const auto counter : kSchedulerCounters) {
    EXPECT_GE(status.totals.*counter, totals_.*counter);
  }
  totals_ = status.totals;
  requests_total_ = status.requests_total;
  group_losses_total_ = status.group_losses_total;
}

}  // namespace shoal::core
