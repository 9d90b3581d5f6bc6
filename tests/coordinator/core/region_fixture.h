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
  std::vector<Action> Take() {
    std::vector<Action> actions = region_.TakeActions();
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
    const auto submits = Select<SubmitAction>(Take());
    EXPECT_THAT(submits, ::testing::SizeIs(1));
    EXPECT_TRUE(region_.Update(connection, epoch, {AnswerCanary(submits.front())}, {}));
    EXPECT_THAT(Select<GroupReadyAction>(Take()), ::testing::SizeIs(1));
    return epoch;
  }

  bool Answer(ConnectionId connection, uint64_t epoch, StreamId stream, std::vector<int32_t> tokens,
              FinishReason finish = FinishReason::kNone) {
    return Answer(connection, epoch, SequenceOf(stream), std::move(tokens), finish);
  }

  bool Answer(ConnectionId connection, uint64_t epoch, SequenceId sequence,
              std::vector<int32_t> tokens, FinishReason finish = FinishReason::kNone) {
    SequenceUpdate update;
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
    sequences_[stream] = region_.streams().at(stream).sequence;
    return stream;
  }

  // Of a stream that Submit took, also when it has ended.
  SequenceId SequenceOf(StreamId stream) const { return sequences_.at(stream); }

  // The request is not taken. Result: why.
  StreamError Refuse(Request request = MakeRequest()) {
    return std::get<StreamError>(region_.Submit(std::move(request)));
  }

  void Cancel(StreamId stream) {
    region_.Cancel(stream);
    invariants_.Cancelled(stream);
  }

  void TickFor(int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      clock_.Advance(100);
      region_.Tick();
    }
  }

  static RegionOptions Options() {
    RegionOptions options;
    options.queue_requests_max = 2;
    options.join_timeout_ms = 5'000;
    options.progress_timeout_ms = 1'000;
    return options;
  }

  ManualClock clock_;
  Region region_{Options(), clock_, MakeTestRandom()};
  RegionInvariants invariants_;
  std::map<StreamId, SequenceId> sequences_;
};

}  // namespace shoal::core
