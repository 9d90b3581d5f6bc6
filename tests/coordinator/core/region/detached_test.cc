// Resumable streams: their clients go and come back, and hear all of it.

#include "coordinator/core/region.h"
#include "coordinator/core/streams/replay.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Ints = std::vector<int32_t>;

class DetachedTest : public RegionTest {
 protected:
  static Request Resumable(uint64_t low = 7, int64_t tokens_max = 4) {
    Request request = MakeRequest(tokens_max);
    request.params.top_logprobs = 0;
    request.params.prompt_logprobs = true;
    request.resumable = true;
    request.stream = StreamId{1, low};
    return request;
  }

  void Bring(ConnectionId leader, StreamId stream, Ints tokens,
             FinishReason finish = FinishReason::kNone) {
    const Stream& known = region_.streams().at(stream);
    SequenceUpdate update;
    update.id = known.sequence;
    update.tokens_before = std::ssize(known.tokens);
    if (known.prompt_logprobs_left > 0) {
      update.prompt_logprobs = {{-1.5F, {}}, {-2.5F, {}}};
      update.cached_tokens = 2;
    }
    for (const int32_t token : tokens) update.logprobs.push_back({-static_cast<float>(token), {}});
    update.tokens = std::move(tokens);
    update.finish = finish;
    EXPECT_TRUE(region_.Update(leader, epoch_, {update}, {}));
  }

  uint64_t epoch_ = JoinReady(1, MakeRank(1));
};

TEST_F(DetachedTest, GoesOnWithoutAClientAndTellsItAllWhenItIsBack) {
  const Request request = Resumable();
  const StreamId stream = Submit(request);
  EXPECT_EQ(stream, (StreamId{1, 7}));
  EXPECT_TRUE(Select<SubmitAction>(Take())[0].request.resumable);
  Bring(1, stream, {4});
  Take();
  Detach(stream);
  Bring(1, stream, {5});
  EXPECT_THAT(Select<DeliverAction>(Take()), IsEmpty());
  EXPECT_FALSE(Resume(request));
  SequenceUpdate all = Heard(Take(), stream);
  EXPECT_EQ(all.tokens, (Ints{4, 5}));
  EXPECT_THAT(all.logprobs, SizeIs(2));
  EXPECT_THAT(all.prompt_logprobs, SizeIs(2));
  EXPECT_EQ(all.cached_tokens, 2);
  Bring(1, stream, {6, 7}, FinishReason::kLength);
  EXPECT_EQ(Heard(Take(), stream).tokens, (Ints{6, 7}));

  // Also once it has ended: its client may have missed the last of it.
  EXPECT_FALSE(Resume(request));
  all = Heard(Take(), stream);
  EXPECT_EQ(all.tokens, (Ints{4, 5, 6, 7}));
  EXPECT_EQ(all.finish, FinishReason::kLength);
  EXPECT_EQ(all.logprobs[3].logprob, -7);
}

TEST_F(DetachedTest, TellsTheNewListenerNothingTwice) {
  const StreamId stream = Submit(Resumable());
  Take();
  Bring(1, stream, {4});
  // What was not taken yet was for the listener before.
  EXPECT_FALSE(Resume(Resumable()));
  Bring(1, stream, {5});
  EXPECT_EQ(Heard(Take(), stream).tokens, (Ints{4, 5}));
}

TEST_F(DetachedTest, ForgetsAStreamWhoseClientStaysAway) {
  const StreamId live = Submit(Resumable(7));
  const StreamId ended = Submit(Resumable(8));
  Take();
  const SequenceId sequence = SequenceOf(ended);
  Bring(1, ended, {4}, FinishReason::kStop);
  Take();
  Detach(live);
  KeepAlive(1, 29'900);
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_THAT(region_.ended(), SizeIs(1));
  KeepAlive(1, 200);
  const auto actions = Take();
  const auto releases = Select<ReleaseAction>(actions);
  ASSERT_THAT(releases, SizeIs(1));
  EXPECT_EQ(releases[0].sequence, sequence);
  EXPECT_EQ(releases[0].leader, 1u);
  EXPECT_THAT(Select<CancelAction>(actions), SizeIs(1));
  EXPECT_THAT(region_.streams(), IsEmpty());
  EXPECT_THAT(region_.ended(), IsEmpty());
}

TEST_F(DetachedTest, LetsLeadersForgetWhatWasCancelled) {
  const StreamId stream = Submit(Resumable());
  Take();
  const SequenceId sequence = SequenceOf(stream);
  Cancel(stream);
  EXPECT_THAT(Select<ReleaseAction>(Take()), IsEmpty()) << "it has not ended there";
  EXPECT_TRUE(Answer(1, epoch_, sequence, {}, FinishReason::kCancelled));
  const auto releases = Select<ReleaseAction>(Take());
  ASSERT_THAT(releases, SizeIs(1));
  EXPECT_EQ(releases[0].sequence, sequence);
}

TEST_F(DetachedTest, GoesOnElsewhereWithoutAClientToo) {
  const StreamId stream = Submit(Resumable());
  Take();
  Bring(1, stream, {4});
  Take();
  Detach(stream);
  region_.Disconnected(1, "closed");
  epoch_ = JoinReady(2, MakeRank(2));
  EXPECT_EQ(region_.streams().at(stream).group, 0u);
  Bring(2, stream, {5, 6, 7}, FinishReason::kLength);
  EXPECT_THAT(Select<DeliverAction>(Take()), IsEmpty());
  EXPECT_FALSE(Resume(Resumable()));
  const SequenceUpdate all = Heard(Take(), stream);
  EXPECT_EQ(all.tokens, (Ints{4, 5, 6, 7}));
  EXPECT_EQ(all.resumes, 1);
  EXPECT_THAT(all.prompt_logprobs, SizeIs(2));
}

TEST_F(DetachedTest, HasItRecomputedWhereItFailedMeanwhile) {
  const StreamId stream = Submit(Resumable());
  Take();
  Detach(stream);
  region_.Disconnected(1, "closed");
  TickFor(3'200);
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty()) << "nobody would hear it";
  EXPECT_THAT(region_.streams(), IsEmpty());
  const auto refused = region_.Resume(Resumable());
  ASSERT_TRUE(std::holds_alternative<StreamError>(refused));
  EXPECT_EQ(std::get<StreamError>(refused).reason, BusyReason::kNoGroup);
  JoinReady(2, MakeRank(2));
  EXPECT_TRUE(Resume(Resumable()));
}

TEST_F(DetachedTest, RecomputesWhatNobodyKnows) {
  EXPECT_TRUE(Resume(Resumable()));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.stream, (StreamId{1, 7}));
  EXPECT_THAT(submits[0].request.generated, IsEmpty());
}

TEST_F(DetachedTest, RefusesToGoOnWithAnotherRequest) {
  Submit(Resumable());
  Submit(Resumable(8, /*tokens_max=*/1'000));
  Request plain = MakeRequest();
  plain.stream = StreamId{1, 9};
  Submit(plain);
  Take();
  const auto expect_refusal = [&](Request request, const std::string& why) {
    const auto outcome = region_.Resume(std::move(request));
    ASSERT_TRUE(std::holds_alternative<StreamError>(outcome)) << why;
    EXPECT_EQ(std::get<StreamError>(outcome).reason, BusyReason::kInvalid);
    EXPECT_THAT(std::get<StreamError>(outcome).message, HasSubstr(why));
  };
  Request request = Resumable();
  request.prompt.back() = 2;
  expect_refusal(request, "its prompt differs");
  request = Resumable();
  request.params.sampling.seed = 5;
  expect_refusal(request, "its parameters differs");
  expect_refusal(Resumable(7, /*tokens_max=*/5), "its tokens_max differs");
  expect_refusal(Resumable(8, /*tokens_max=*/61), "its tokens_max differs");
  request = Resumable();
  request.model = "giraffe";
  expect_refusal(request, "its model differs");
  request = Resumable();
  request.numerics_id = "ffffffffffffffffffffffffffffffff";
  expect_refusal(request, "numerics id differs");
  expect_refusal(plain, "not resumable");
  EXPECT_FALSE(Resume(Resumable(8, /*tokens_max=*/1'000))) << "the grant is not the request";
  EXPECT_EQ(Refuse(Resumable()).reason, BusyReason::kInvalid) << "the id is taken";
}

TEST_F(DetachedTest, KeepsABoundedNumberWithoutAListener) {
  std::vector<StreamId> streams;
  for (uint64_t i = 0; i < 5; ++i) streams.push_back(Submit(Resumable(i)));
  Take();
  Bring(1, streams[0], {4}, FinishReason::kStop);
  Take();
  region_.Cancel(streams[0]);
  const auto actions = Take();
  EXPECT_THAT(Select<ReleaseAction>(actions), SizeIs(1)) << "its client has all of it";
  EXPECT_THAT(region_.ended(), IsEmpty());

  for (int i = 1; i < 5; ++i) {
    Bring(1, streams[static_cast<size_t>(i)], {4}, FinishReason::kStop);
    Take();
  }
  for (uint64_t i = 0; i < kEndedStreamsMax; ++i) {
    const StreamId stream = Submit(Resumable(100 + i));
    Take();
    Bring(1, stream, {4}, FinishReason::kStop);
    EXPECT_THAT(Select<ReleaseAction>(Take()), SizeIs(i < kEndedStreamsMax - 4 ? 0 : 1));
  }
  EXPECT_THAT(region_.ended(), SizeIs(kEndedStreamsMax));
}

TEST_F(DetachedTest, IsResumedInPiecesOfABoundedSize) {
  Stream stream(Resumable());
  stream.tokens.resize(2'500);
  stream.kept.logprobs.resize(2'500);
  stream.kept.prompt_logprobs.resize(1'025);
  SequenceUpdate end;
  end.finish = FinishReason::kStop;
  end.resumes = 2;
  const auto updates = Replay(stream, &end);
  ASSERT_THAT(updates, SizeIs(6));
  int64_t tokens = 0;
  int64_t prompt = 0;
  for (const SequenceUpdate& update : updates) {
    EXPECT_LE(update.tokens.size() + update.prompt_logprobs.size(), 1'024u);
    EXPECT_EQ(update.logprobs.size(), update.tokens.size());
    EXPECT_EQ(update.tokens_before, tokens);
    EXPECT_EQ(update.prompt_logprobs_before, prompt);
    tokens += std::ssize(update.tokens);
    prompt += std::ssize(update.prompt_logprobs);
  }
  EXPECT_EQ(tokens, 2'500);
  EXPECT_EQ(prompt, 1'025);
  EXPECT_EQ(updates.back().finish, FinishReason::kStop);
  EXPECT_EQ(updates.back().resumes, 2);
}

TEST_F(DetachedTest, CancelsAStreamThatNobodyCanComeBackFor) {
  const StreamId stream = Submit();
  Take();
  Detach(stream);
  EXPECT_THAT(Select<CancelAction>(Take()), SizeIs(1));
  EXPECT_THAT(region_.streams(), IsEmpty());
}

// ---- Streams that groups bring along ----

class HandOverTest : public DetachedTest {
 protected:
  // A stream of another coordinator, with what a group has brought of it.
  static HeldStream Held(uint64_t low, Ints tokens, FinishReason finish = FinishReason::kNone) {
    HeldStream held;
    const Request request = Resumable(low);
    held.request = {.id = 90 + low, .prompt = request.prompt, .params = request.params};
    held.request.stream = *request.stream;
    held.request.resumable = true;
    held.all.id = held.request.id;
    held.all.prompt_logprobs = {{-1.5F, {}}, {-2.5F, {}}};
    for (const int32_t token : tokens)
      held.all.logprobs.push_back({-static_cast<float>(token), {}});
    held.all.tokens = std::move(tokens);
    held.all.finish = finish;
    return held;
  }

  // A group that has served another coordinator. Result: its canary.
  SubmitAction JoinOld(ConnectionId connection) {
    RankRegistration rank = MakeRank(connection);
    rank.last_epoch = 3;
    old_epoch_ = region_.Register(connection, rank).epoch;
    return Select<SubmitAction>(Take()).at(0);
  }

  // Its leader takes no canary.
  void RefuseCanary(ConnectionId leader, const SubmitAction& canary) {
    SequenceUpdate refusal;
    refusal.id = canary.request.id;
    refusal.finish = FinishReason::kCancelled;
    refusal.detail = "this group's queue is full";
    refusal.no_room = true;
    EXPECT_TRUE(region_.Update(leader, old_epoch_, {refusal}, {}));
  }

  uint64_t old_epoch_ = 0;
};

TEST_F(HandOverTest, GoOnAsStreamsWithoutAClient) {
  const SubmitAction canary = JoinOld(2);
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(7, {4, 5}), Held(8, {6}, FinishReason::kStop)},
                               /*last=*/true));
  EXPECT_THAT(Take(), SizeIs(5)) << "only the journal hears of it";
  EXPECT_EQ(region_.status().streams_adopted_total, 2);
  EXPECT_EQ(region_.streams().at({1, 7}).group, 1u);
  EXPECT_THAT(region_.ended(), SizeIs(1));
  EXPECT_TRUE(region_.Update(2, old_epoch_, {AnswerCanary(canary)}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));

  EXPECT_FALSE(Resume(Resumable(7)));
  EXPECT_FALSE(Resume(Resumable(8)));
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(8, {6}, FinishReason::kStop)}, true));
  EXPECT_TRUE(region_.Update(2, old_epoch_, {Held(8, {6}, FinishReason::kStop).all}, {}));
  const auto told = Take();
  EXPECT_THAT(Select<ReleaseAction>(told), IsEmpty()) << "what is told again is still wanted";
  EXPECT_THAT(Select<CancelAction>(told), IsEmpty());
  EXPECT_EQ(Heard(told, {1, 7}).tokens, (Ints{4, 5}));
  EXPECT_EQ(Heard(told, {1, 8}).finish, FinishReason::kStop);
  SequenceUpdate next;
  next.id = 97;
  next.tokens_before = 2;
  next.tokens = {6};
  next.logprobs.resize(1);
  EXPECT_TRUE(region_.Update(2, old_epoch_, {next}, {}));
  EXPECT_EQ(Heard(Take(), {1, 7}).tokens, (Ints{6}));
  EXPECT_GT(Submit(), StreamId{});
  EXPECT_GT(region_.streams().begin()->second.sequence, 0u);
}

TEST_F(HandOverTest, ComeInPartsAndMoreThanOnce) {
  JoinOld(2);
  HeldStream first = Held(7, {4});
  HeldStream second;
  second.request.id = second.all.id = first.request.id;
  second.all.tokens_before = 1;
  second.all.tokens = {5, 6};
  second.all.logprobs.resize(2);
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {first, second}, false));
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {first, second}, true));
  const auto actions = Take();
  EXPECT_THAT(Select<CancelAction>(actions), IsEmpty());
  EXPECT_EQ(region_.streams().at({1, 7}).tokens, (Ints{4, 5, 6}));
}

TEST_F(HandOverTest, AreRefusedWithoutHarmWhereTheyMakeNoSense) {
  JoinOld(2);
  uint64_t low = 10;
  const auto expect_refused = [&](const std::string& what, auto change) {
    HeldStream held = Held(++low, {4});
    change(held);
    EXPECT_TRUE(region_.HandOver(2, old_epoch_, {held}, false));
    const auto actions = Take();
    EXPECT_THAT(Select<CancelAction>(actions), SizeIs(1)) << what;
    EXPECT_THAT(Select<GroupLostAction>(actions), IsEmpty()) << what;
    EXPECT_THAT(region_.streams(), IsEmpty()) << what;
    EXPECT_THAT(region_.ended(), IsEmpty()) << what;
  };
  expect_refused("no prompt", [](auto& held) { held.request.prompt.clear(); });
  expect_refused("prompt", [](auto& held) { held.request.prompt[0] = 100; });
  expect_refused("token", [](auto& held) { held.all.tokens[0] = -1; });
  expect_refused("no stream", [](auto& held) { held.request.stream = {}; });
  expect_refused("length", [](auto& held) { held.request.params.tokens_max = INT64_MAX; });
  expect_refused("params", [](auto& held) { held.request.params.sampling.top_p = -1; });
  expect_refused("biases", [](auto& held) {
    held.request.params.sampling.logit_bias = {{100, 1}};
  });
  expect_refused("log-probabilities", [](auto& held) { held.all.logprobs.clear(); });
  expect_refused("prompt's", [](auto& held) { held.all.prompt_logprobs.clear(); });
  expect_refused("a gap", [](auto& held) { held.all.tokens_before = 1; });
  expect_refused("too many", [](auto& held) {
    held.all.tokens.resize(5);
    held.all.logprobs.resize(5);
  });
  expect_refused("an id", [](auto& held) { held.request.id = held.all.id = UINT64_MAX; });
  expect_refused("two ids", [](auto& held) { held.all.id = 5; });
  expect_refused("cancelled", [](auto& held) { held.all.finish = FinishReason::kCancelled; });
  expect_refused("generated", [](auto& held) { held.request.generated.resize(4); });
  expect_refused("alternatives", [](auto& held) { held.all.logprobs[0].top = {{1, -1.0F}}; });
  expect_refused("another alternative", [](auto& held) {
    held.request.params.top_logprobs = 1;
    for (auto* positions : {&held.all.prompt_logprobs, &held.all.logprobs}) {
      for (TokenLogprobs& position : *positions) position.top = {{100, -1.0F}};
    }
  });
  expect_refused("lost log-probabilities", [](auto& held) {
    held.request.generated = {3};
    held.all.tokens_before = 1;
  });
  EXPECT_FALSE(region_.HandOver(2, old_epoch_ + 1, {Held(9, {4})}, true));
  EXPECT_EQ(region_.status().streams_adopted_total, 0);
}

TEST_F(HandOverTest, HaveOneGeneratorWhoeverBringsThem) {
  JoinOld(2);
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(7, {4})}, true));
  Take();
  const uint64_t first = old_epoch_;
  JoinOld(3);
  HeldStream other = Held(7, {4});
  other.request.id = other.all.id = 200;
  EXPECT_TRUE(region_.HandOver(3, old_epoch_, {other}, true));
  const auto cancels = Select<CancelAction>(Take());
  ASSERT_THAT(cancels, SizeIs(1));
  EXPECT_EQ(cancels[0].leader, 3u);
  EXPECT_EQ(cancels[0].sequence, 200u);
  EXPECT_EQ(region_.streams().at({1, 7}).group, 1u);

  // The client that was here first has it recomputed, until the group comes that has more of it.
  EXPECT_TRUE(Resume(Resumable(8)));
  Take();
  const SequenceId recomputed = SequenceOf({1, 8});
  HeldStream farther = Held(8, {6, 7});
  farther.request.id = farther.all.id = recomputed;
  EXPECT_TRUE(region_.HandOver(2, first, {farther}, true)) << "an id that is in use here";
  EXPECT_THAT(Select<CancelAction>(Take()), SizeIs(1));
  farther.request.id = farther.all.id = 300;
  EXPECT_TRUE(region_.HandOver(2, first, {farther}, true));
  const auto actions = Take();
  EXPECT_EQ(Heard(actions, {1, 8}).tokens, (Ints{6, 7}));
  ASSERT_THAT(Select<CancelAction>(actions), SizeIs(1));
  EXPECT_EQ(Select<CancelAction>(actions)[0].sequence, recomputed);
  EXPECT_EQ(region_.streams().at({1, 8}).resumes, 1);
  EXPECT_EQ(region_.status().streams_resumed[static_cast<size_t>(LossCause::kRankDied)], 1);
}

TEST_F(HandOverTest, AreForgottenWhereNobodyComesForThem) {
  const SubmitAction canary = JoinOld(2);
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(7, {4})}, true));
  EXPECT_TRUE(region_.Update(2, old_epoch_, {AnswerCanary(canary)}, {}));
  Take();
  for (int i = 0; i < 301; ++i) {
    (void)region_.Heartbeat(1, epoch_, 0, false);
    (void)region_.Heartbeat(2, old_epoch_, 0, false);
    TickFor(100);
  }
  EXPECT_THAT(Select<CancelAction>(Take()), SizeIs(1));
  EXPECT_THAT(region_.streams(), IsEmpty());
}

TEST_F(HandOverTest, KeepTheirFullGroupHoweverLongItsCanaryHasNoPlace) {
  const SubmitAction refused = JoinOld(2);
  EXPECT_TRUE(
      region_.HandOver(2, old_epoch_, {Held(7, {4}), Held(8, {5}), Held(9, {6})}, /*last=*/true));
  RefuseCanary(2, refused);
  Take();
  KeepAlive(2, 2 * Options().join_timeout_ms);
  auto actions = Take();
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty());
  EXPECT_TRUE(region_.Heartbeat(2, old_epoch_, 0, false)) << "it is there";
  const StreamError refusal = Refuse();
  EXPECT_EQ(refusal.reason, BusyReason::kNoGroup);
  EXPECT_THAT(refusal.message, HasSubstr("soon after one of them has ended"));

  // The first place that is free is the canary's.
  SequenceUpdate end;
  end.id = 97;
  end.tokens_before = 1;
  end.finish = FinishReason::kStop;
  EXPECT_TRUE(region_.Update(2, old_epoch_, {end}, {}));
  const auto canaries = Select<SubmitAction>(Take());
  ASSERT_THAT(canaries, SizeIs(1));
  EXPECT_EQ(canaries[0].request.stream, StreamId{});
  // It waits there: both places of a step are taken.
  KeepAlive(2, 2 * Options().join_timeout_ms);
  EXPECT_TRUE(region_.Update(2, old_epoch_, {AnswerCanary(canaries[0])}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
  EXPECT_EQ(region_.streams().size(), 2u);
}

TEST_F(HandOverTest, KeepTheirGroupThatIsFullOfWhatWasNotTaken) {
  const SubmitAction refused = JoinOld(2);
  HeldStream bad = Held(9, {4});
  bad.request.params.sampling.top_p = -1;
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(7, {4}), Held(8, {5}), bad}, /*last=*/true));
  // The last one takes up a place there until it has heard that it is cancelled.
  RefuseCanary(2, refused);
  EXPECT_THAT(Select<GroupLostAction>(Take()), IsEmpty());
  SequenceUpdate end;
  end.id = bad.request.id;
  end.finish = FinishReason::kCancelled;
  EXPECT_TRUE(region_.Update(2, old_epoch_, {end}, {}));
  const auto canaries = Select<SubmitAction>(Take());
  ASSERT_THAT(canaries, SizeIs(1));
  EXPECT_TRUE(region_.Update(2, old_epoch_, {AnswerCanary(canaries[0])}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
}

TEST_F(HandOverTest, LoseAGroupThatHasNoRoomForItsCanaryForEver) {
  SubmitAction canary = JoinOld(2);
  EXPECT_TRUE(region_.HandOver(2, old_epoch_, {Held(7, {4})}, /*last=*/true));
  std::vector<GroupLostAction> lost;
  const int64_t ticks_max = 2 * Options().join_timeout_ms / 100;
  for (int64_t tick = 0; tick < ticks_max && lost.empty(); ++tick) {
    RefuseCanary(2, canary);
    EXPECT_TRUE(region_.Heartbeat(1, epoch_, 0, false));
    KeepAlive(2, 100);
    const auto actions = Take();
    lost = Select<GroupLostAction>(actions);
    if (!lost.empty()) break;
    ASSERT_THAT(Select<SubmitAction>(actions), SizeIs(1));
    canary = Select<SubmitAction>(actions)[0];
  }
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kNeverReady);
}

TEST_F(HandOverTest, PutNoTwoStreamsOnTrialTogether) {
  Submit(Resumable(7));
  Submit(Resumable(8));
  Take();
  region_.Disconnected(1, "closed");
  JoinReady(2, MakeRank(2));
  region_.Disconnected(2, "closed");
  JoinReady(3, MakeRank(3));
  EXPECT_FALSE(region_.streams().at({1, 8}).group.has_value()) << "the other one is on trial";
  JoinOld(4);
  EXPECT_TRUE(region_.HandOver(4, old_epoch_, {Held(7, {4}), Held(8, {5})}, /*last=*/true));
  const auto actions = Take();
  EXPECT_EQ(region_.streams().at({1, 7}).group, 1u);
  EXPECT_NE(region_.streams().at({1, 8}).group, 1u);
  EXPECT_THAT(Select<CancelAction>(actions), SizeIs(2)) << "the first one's other, the second one";
}

}  // namespace
}  // namespace shoal::core
