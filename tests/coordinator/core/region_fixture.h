#pragma once

// A region with what tests do to it: groups join and answer, streams come, time passes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/coordinator/core/support.h"

namespace shoal::core {
class RegionTest : public ::testing::Test {
 protected:
  // Without a grace, so that a connection that breaks takes its group along.
  explicit RegionTest(const RegionOptions& options = Options())
      : region_(options, clock_, MakeTestRandom()) {}

  std::vector<Action> Take() {
    std::vector<Action> actions = region_.TakeActions();
    for (const SubmitAction& submit : Select<SubmitAction>(actions)) {
      sequences_[submit.request.stream] = submit.request.id;
    }
    invariants_.Observe(actions);
    invariants_.Check(region_);
    return actions;
  }

  // Registers all ranks on connections connection, connection + 1, ...
  std::vector<RegisterOutcome> Join(ConnectionId connection, const RankRegistration& shape) {
    std::vector<RegisterOutcome> outcomes;
    for (int32_t rank = 0; rank < shape.size; ++rank) {
      RankRegistration registration = shape;
      registration.rank = rank;
      registration.pid = 4000 + rank;
      outcomes.push_back(region_.Register(connection + static_cast<uint64_t>(rank), registration));
    }
    return outcomes;
  }

  // Joins a group and answers its canary. Result: its epoch.
  uint64_t JoinReady(ConnectionId connection, const RankRegistration& shape) {
    const uint64_t epoch = Join(connection, shape).front().epoch;
    auto canaries = Select<SubmitAction>(Take());
    std::erase_if(canaries, [&](const SubmitAction& submit) {
      return submit.leader != connection || submit.request.stream != StreamId{};
    });
    EXPECT_THAT(canaries, ::testing::SizeIs(1));
    EXPECT_TRUE(region_.Update(connection, epoch, {AnswerCanary(canaries.front())}, {}));
    EXPECT_THAT(Select<GroupReadyAction>(Take()), ::testing::SizeIs(1));
    return epoch;
  }

  bool Answer(ConnectionId connection, uint64_t epoch, StreamId stream, std::vector<int32_t> tokens,
              FinishReason finish = FinishReason::kNone) {
    const auto found = region_.streams().find(stream);
    const size_t before = found == region_.streams().end() ? 0 : found->second.tokens.size();
    return Answer(connection, epoch, SequenceOf(stream), std::move(tokens), finish, before);
  }

  bool Answer(ConnectionId connection, uint64_t epoch, SequenceId sequence,
              std::vector<int32_t> tokens, FinishReason finish = FinishReason::kNone,
              size_t before = 0) {
    SequenceUpdate update;
    update.tokens_before = static_cast<int64_t>(before);
    update.id = sequence;
    update.tokens = std::move(tokens);
    update.finish = finish;
    return region_.Update(connection, epoch, {update}, {});
  }

  static Request MakeRequest(int64_t tokens_max = 4, size_t prompt_tokens = 3) {
    Request request{std::vector<int32_t>(prompt_tokens, 1), {}};
    request.params.tokens_max = tokens_max;
    return request;
  }

  // The request is taken.
  StreamId Submit(Request request = MakeRequest()) {
    const auto stream = std::get<StreamId>(region_.Submit(std::move(request)));
    invariants_.Submitted(stream);
    const SequenceId sequence = region_.streams().at(stream).sequence;
    if (sequence != 0) sequences_[stream] = sequence;
    return stream;
  }

  // Of a stream that Submit took, in the last group that it was given to, as Take has seen it.
  SequenceId SequenceOf(StreamId stream) const { return sequences_.at(stream); }

  // The request is not taken. Result: why.
  StreamError Refuse(Request request = MakeRequest()) {
    return std::get<StreamError>(region_.Submit(std::move(request)));
  }

  void Cancel(StreamId stream) {
    region_.Cancel(stream);
    invariants_.Cancelled(stream);
  }

  void Detach(StreamId stream) {
    region_.Detach(stream);
    invariants_.Detached(stream);
  }

  // It is resumed. Result: whether it is recomputed.
  bool Resume(const Request& request) {
    const auto outcome = region_.Resume(request);
    EXPECT_TRUE(std::holds_alternative<Region::Resumed>(outcome))
        << std::get<StreamError>(outcome).message;
    invariants_.Resumed(*request.stream);
    return std::holds_alternative<Region::Resumed>(outcome) &&
           std::get<Region::Resumed>(outcome).recomputing;
  }

  // All that has been delivered of a stream, as one update.
  static SequenceUpdate Heard(const std::vector<Action>& actions, StreamId stream) {
    SequenceUpdate all;
    for (const DeliverAction& deliver : Select<DeliverAction>(actions)) {
      if (deliver.stream != stream) continue;
      const SequenceUpdate& next = deliver.update;
      all.tokens.insert(all.tokens.end(), next.tokens.begin(), next.tokens.end());
      all.logprobs.insert(all.logprobs.end(), next.logprobs.begin(), next.logprobs.end());
      all.prompt_logprobs.insert(all.prompt_logprobs.end(), next.prompt_logprobs.begin(),
                                 next.prompt_logprobs.end());
      all.cached_tokens += next.cached_tokens;
      all.finish = next.finish;
      all.resumes += next.resumes;
    }
    return all;
  }

  void TickFor(int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      clock_.Advance(100);
      region_.Tick();
    }
  }

  // As TickFor, with heartbeats of the group whose first rank has that connection.
  void KeepAlive(ConnectionId leader, int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      for (const auto& [number, group] : region_.groups()) {
        if (!group.ranks[0] || group.leader() != leader) continue;
        for (const auto& rank : group.ranks) {
          EXPECT_TRUE(region_.Heartbeat(rank->connection, group.epoch, 0, false));
        }
      }
      TickFor(100);
    }
  }

  static RegionOptions Options() {
    RegionOptions options;
    options.resume_timeout_ms = 3'000;
    options.canary_interval_ms = 0;
    options.queue_requests_max = 2;
    options.join_timeout_ms = 5'000;
    options.progress_timeout_ms = 1'000;
    options.rejoin_grace_ms = 0;
    return options;
  }

  ManualClock clock_;
  Region region_;
  RegionInvariants invariants_;
  std::map<StreamId, SequenceId> sequences_;
};

}  // namespace shoal::core
