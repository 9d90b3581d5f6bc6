// A region, its groups and its clients on one virtual clock under one seed: ranks die, stop, hang
// and lie, leaders are slow, clients come and go, messages are late. Whatever happens, every stream
// has exactly one end, and its tokens are those its request asked for, of one version of one model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "tests/coordinator/core/support.h"

namespace shoal::core {
namespace {

// Two versions of a model and another model; more of the first, as in a region that is about to
// change over.
constexpr size_t kKeys = 3;

RankRegistration MakeRankOf(size_t key) {
  RankRegistration rank = MakeRank(0);
  if (key == 1) rank.numerics_id = std::string(32, '1');
  if (key == 2) rank.model_name = "giraffe";
  return rank;
}

// The token a request with this first prompt id has at this place, and in this version only.
int32_t TokenAt(size_t key, int32_t prompt, size_t index) {
  const auto position = (static_cast<uint64_t>(prompt) * 31 + index * 17) % 33;
  return static_cast<int32_t>(key * 33 + position);
}

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    RegionOptions options;
    options.queue_requests_max = static_cast<int32_t>(Draw(0, 6));
    options.heartbeats_missed_max = 5;
    options.progress_timeout_ms = 3'000;
    options.join_timeout_ms = 4'000;
    options.resume_timeout_ms = Draw(0, 3) * 2'000;
    options.rejoin_grace_ms = Draw(0, 2) * 100;
    options.canary_interval_ms = Draw(0, 2) * 1'000;
    options.orphan_grace_ms = 1'500;
    options.drain_timeout_ms = 1'500;
    options.suspect_refusal_ms = 1'000;
    options.boot = seed << 24;
    for (size_t key = 0; key < kKeys; ++key) {
      const RankRegistration rank = MakeRankOf(key);
      options.canary_digests[rank.numerics_id] = CanaryDigestOf(rank);
    }
    region_ = std::make_unique<Region>(options, clock_, MakeTestRandom(seed));
  }

  void Run() {
    for (int64_t i = 0; i < Draw(1, 4); ++i) StartGroup();
    After(100, [this] { Tick(); });
    After(500, [this] { Client(); });
    if (Draw(0, 3) > 0) After(1'000, [this] { Fault(); });
    RunUntil(12'000);
    // Heal: no more faults or requests; what is left must come to its end.
    quiet_ = true;
    for (const auto& [leader, group] : groups_) group->step_ms = 20;
    for (size_t key = 0; key < kKeys; ++key) StartGroup(key, /*sound=*/true);
    RunUntil(30'000);
    EXPECT_TRUE(invariants_.open().empty())
        << invariants_.open().size() << " streams never ended, one is "
        << *invariants_.open().begin();
    for (const ServedModel& model : region_->models()) {
      EXPECT_GE(model.groups_ready, 1) << "the last group was never lost";
    }
    region_->Stop();
    Act();
    RunUntil(31'000);
    EXPECT_TRUE(region_->groups().empty());
  }

  int64_t ended() const { return ended_; }
  int64_t lost() const { return lost_; }
  int64_t ended_of(size_t key) const { return ended_of_[key]; }
  int64_t unsound_lost() const { return unsound_lost_; }
  int64_t resumes() const { return resumes_; }
  int64_t resumed() const { return resumed_; }
  int64_t drained() const { return drained_; }

 private:
  struct Received {
    size_t key = 0;
    int32_t prompt = 0;  // Its first id.
    size_t count = 0;    // Tokens so far.
    Request request{};
  };
  struct Sequence {
    SubmitAction submit;
    size_t sent = 0;
    bool cancelled = false;
  };
  struct FakeGroup {
    size_t key = 0;
    bool sound = true;  // Otherwise its canary has a flipped bit.
    RankRegistration shape;
    std::vector<ConnectionId> connections;
    uint64_t epoch = 0;
    bool alive = true;     // Ranks run.
    bool stopped = false;  // A rank is stopped: no heartbeats, no tokens, connection open.
    bool hung = false;     // Heartbeats, but no progress.
    int64_t step_ms = 20;
    uint64_t steps = 0;
    std::map<SequenceId, Sequence> sequences;
  };

  int64_t Draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  void After(int64_t milliseconds, std::function<void()> what) {
    events_.emplace(clock_.now() + milliseconds * kMillisecondNs, std::move(what));
  }

  void RunUntil(int64_t milliseconds) {
    const TimeNs end = kSecondNs + milliseconds * kMillisecondNs;
    while (!events_.empty() && events_.begin()->first <= end && !::testing::Test::HasFailure()) {
      auto event = events_.extract(events_.begin());
      clock_.AdvanceTo(event.key());
      event.mapped()();
      Act();
    }
    clock_.AdvanceTo(end);
  }

  // Does what the region says, and checks it.
  void Act() {
    const std::vector<Action> actions = region_->TakeActions();
    invariants_.Observe(actions);
    invariants_.Check(*region_);
    for (const Action& action : actions) {
      if (const auto* submit = std::get_if<SubmitAction>(&action)) {
        const auto group = groups_.find(submit->leader);
        ASSERT_NE(group, groups_.end()) << "a request for what is no leader";
        ASSERT_EQ(group->second->epoch, submit->epoch);
        After(Draw(0, 5), [group = group->second, submit = *submit] {
          group->sequences[submit.request.id] = {submit, submit.request.generated.size()};
        });
        if (!submit->request.params.prompt_logprobs) CheckPlace(*group->second, *submit);
      } else if (const auto* cancel = std::get_if<CancelAction>(&action)) {
        After(5 + Draw(0, 5), [group = groups_.at(cancel->leader), id = cancel->sequence] {
          const auto sequence = group->sequences.find(id);
          if (sequence != group->sequences.end()) sequence->second.cancelled = true;
        });
      } else if (const auto* stop = std::get_if<StopAction>(&action)) {
        After(5, [this, leader = stop->leader] { End(groups_.at(leader)); });
      } else if (const auto* close = std::get_if<CloseAction>(&action)) {
        for (auto& [leader, group] : groups_) {
          if (std::ranges::count(group->connections, close->connection) > 0) group->alive = false;
        }
      } else if (const auto* deliver = std::get_if<DeliverAction>(&action)) {
        Receive(deliver->stream, deliver->update);
      } else if (const auto* fail = std::get_if<FailAction>(&action)) {
        received_.erase(fail->stream);
        ++lost_;
      }
    }
  }

  // A stream goes only to a group of the key that it was admitted to, and that computes soundly.
  void CheckPlace(const FakeGroup& group, const SubmitAction& submit) {
    EXPECT_TRUE(group.sound) << "a request for a group whose canary was wrong";
    const auto stream = std::ranges::find(region_->streams(), submit.request.id,
                                          [](const auto& entry) { return entry.second.sequence; });
    // Cancelled in the same turn; nobody will hear of it.
    if (stream == region_->streams().end()) return;
    EXPECT_EQ(stream->second.key, KeyOf(group.shape));
    const size_t brought = submit.request.generated.size();
    EXPECT_EQ(brought, stream->second.tokens.size());
    EXPECT_LT(brought, static_cast<size_t>(submit.request.params.tokens_max));
  }

  void Receive(StreamId stream, const SequenceUpdate& update) {
    if (!received_.contains(stream)) return;  // Its client has just left.
    auto& [key, prompt, count, request] = received_.at(stream);
    EXPECT_EQ(update.tokens_before, static_cast<int64_t>(count));
    for (const int32_t token : update.tokens) {
      EXPECT_EQ(token, TokenAt(key, prompt, count)) << "stream " << stream << " at " << count;
      ++count;
    }
    if (update.finish == FinishReason::kNone) return;
    ++ended_;
    ++ended_of_[key];
    resumes_ += update.resumes;
    received_.erase(stream);
  }

  void StartGroup() {
    const auto key = static_cast<size_t>(Draw(0, kKeys - 1));
    StartGroup(key, /*sound=*/Draw(0, 7) > 0);
  }

  void StartGroup(size_t key, bool sound) {
    auto group = std::make_shared<FakeGroup>();
    group->key = key;
    group->sound = sound;
    group->shape = MakeRankOf(key);
    group->shape.group_id = next_group_id_++;
    group->shape.tensor_parallel = static_cast<int32_t>(Draw(1, 3));
    group->shape.pipeline_parallel = static_cast<int32_t>(Draw(1, 2));
    group->shape.size = group->shape.tensor_parallel * group->shape.pipeline_parallel;
    group->shape.sequences_max = static_cast<int32_t>(Draw(1, 4));
    group->shape.queue_requests_max = static_cast<int32_t>(Draw(0, 2));
    group->shape.kv_cache_tokens = Draw(1, 3) * 20 + 4;
    group->step_ms = Draw(20, 80);
    for (int32_t rank = 0; rank < group->shape.size; ++rank) {
      group->connections.push_back(next_connection_++);
    }
    groups_[group->connections.front()] = group;
    for (int32_t rank = 0; rank < group->shape.size; ++rank) {
      After(Draw(0, 300), [this, group, rank] { Register(group, rank); });
    }
  }

  void Register(const std::shared_ptr<FakeGroup>& group, int32_t rank) {
    if (!group->alive) return;
    RankRegistration registration = group->shape;
    registration.rank = rank;
    const ConnectionId connection = group->connections[static_cast<size_t>(rank)];
    const RegisterOutcome outcome = region_->Register(connection, registration);
    if (outcome.kind != RegisterOutcome::Kind::kAccepted) return;
    group->epoch = outcome.epoch;
    After(1, [this, group, connection] { Heartbeat(group, connection); });
    if (rank == 0) After(group->step_ms, [this, group] { Step(group); });
  }

  void Heartbeat(const std::shared_ptr<FakeGroup>& group, ConnectionId connection) {
    if (!group->alive) return;
    if (!group->stopped) {
      EXPECT_EQ(region_->Heartbeat(connection, group->epoch, group->steps,
                                   !group->sequences.empty() || group->hung),
                true);
    }
    After(100 + Draw(0, 20), [this, group, connection] { Heartbeat(group, connection); });
  }

  void Step(const std::shared_ptr<FakeGroup>& group) {
    if (!group->alive) return;
    if (!group->stopped && !group->hung) {
      ++group->steps;
      std::vector<SequenceUpdate> updates;
      for (auto sequence = group->sequences.begin(); sequence != group->sequences.end();) {
        updates.push_back(Advance(*group, sequence->first, sequence->second));
        const bool ends = updates.back().finish != FinishReason::kNone;
        sequence = ends ? group->sequences.erase(sequence) : std::next(sequence);
      }
      EXPECT_TRUE(region_->Update(group->connections.front(), group->epoch, updates,
                                  {.steps_total = static_cast<int64_t>(group->steps)}));
    }
    After(group->step_ms, [this, group] { Step(group); });
  }

  SequenceUpdate Advance(const FakeGroup& group, SequenceId id, Sequence& sequence) {
    const SequenceRequest& request = sequence.submit.request;
    if (request.params.prompt_logprobs) {
      if (!group.sound) ++unsound_lost_;
      return AnswerCanary(sequence.submit, group.sound ? 0 : 1);
    }
    SequenceUpdate update;
    update.id = id;
    update.tokens_before = static_cast<int64_t>(sequence.sent);
    if (sequence.cancelled) {
      update.finish = FinishReason::kCancelled;
      return update;
    }
    const int64_t tokens_max = request.params.tokens_max;
    const int64_t left = tokens_max - static_cast<int64_t>(sequence.sent);
    for (int64_t i = Draw(0, std::min<int64_t>(left, 2)); i > 0; --i) {
      update.tokens.push_back(TokenAt(group.key, request.prompt.front(), sequence.sent++));
    }
    if (static_cast<int64_t>(sequence.sent) == tokens_max) {
      update.finish = FinishReason::kLength;
    } else if (Draw(0, 20) == 0) {
      update.finish = FinishReason::kStop;
    }
    return update;
  }

  void Tick() {
    region_->Tick();
    After(100, [this] { Tick(); });
  }

  void Client() {
    if (quiet_) return;
    const auto victim =
        received_.empty()
            ? received_.end()
            : std::next(received_.begin(), Draw(0, static_cast<int64_t>(received_.size()) - 1));
    if (Draw(0, 3) == 0 && victim != received_.end()) {
      Leave(victim->first, victim->second);
      received_.erase(victim);
    } else {
      const auto prompt = static_cast<int32_t>(Draw(0, 99));
      Request request{{prompt, 1}, {}};
      request.params.tokens_max = Draw(1, 50);
      // By the name alone: some version of it.
      const ModelKey wanted = KeyOf(MakeRankOf(static_cast<size_t>(Draw(0, kKeys - 1))));
      request.model = wanted.name;
      if (Draw(0, 1) == 0) request.numerics_id = wanted.numerics_id;
      request.resumable = Draw(0, 1) == 0;
      if (request.resumable) request.stream = StreamId{7, next_group_id_++};
      const auto outcome = region_->Submit(request);
      if (const auto* stream = std::get_if<StreamId>(&outcome)) {
        invariants_.Submitted(*stream);
        received_[*stream] = {KeyIndex(*stream, wanted), prompt, 0, request};
      }
    }
    After(Draw(1, 120), [this] { Client(); });
  }

  // A client goes for good, or comes back later and hears all of its answer.
  void Leave(StreamId stream, Received received) {
    if (!received.request.resumable) {
      invariants_.Cancelled(stream);
      region_->Cancel(stream);
      return;
    }
    invariants_.Detached(stream);
    region_->Detach(stream);
    // Of the same version: the answer of another one is another answer.
    received.request.numerics_id = KeyOf(MakeRankOf(received.key)).numerics_id;
    After(Draw(1, 2'000), [this, stream, received] {
      const auto outcome = region_->Resume(received.request);
      if (std::holds_alternative<StreamError>(outcome)) return;
      invariants_.Resumed(stream);
      received_[stream] = {received.key, received.prompt, 0, received.request};
      ++resumed_;
    });
  }

  // Of the version that the stream was admitted to: of the model that was wanted.
  size_t KeyIndex(StreamId stream, const ModelKey& wanted) {
    const ModelKey& key = region_->streams().at(stream).key;
    EXPECT_EQ(key.name, wanted.name);
    for (size_t i = 0; i < kKeys; ++i) {
      if (KeyOf(MakeRankOf(i)) == key) return i;
    }
    ADD_FAILURE() << "no group has " << key;
    return 0;
  }

  void Fault() {
    if (quiet_) return;
    std::vector<std::shared_ptr<FakeGroup>> alive;
    for (const auto& [leader, group] : groups_) {
      if (group->alive && group->epoch != 0) alive.push_back(group);
    }
    if (!alive.empty()) {
      const auto group =
          alive[static_cast<size_t>(Draw(0, static_cast<int64_t>(alive.size()) - 1))];
      switch (Draw(0, 4)) {
        case 0:
          Die(group);
          break;
        case 1:
          group->stopped = true;
          break;
        case 2:
          group->hung = true;
          break;
        case 3:
          group->step_ms *= 10;
          break;
        case 4:
          if (region_->DrainRequested(group->connections.front(), group->epoch)) ++drained_;
          break;
      }
      StartGroup();
      After(Draw(500, 3'000), [this, group] { SpeakFromTheGrave(group); });
    }
    After(Draw(500, 3'000), [this] { Fault(); });
  }

  void Die(const std::shared_ptr<FakeGroup>& group) {
    if (!group->alive) return;
    group->alive = false;
    region_->Disconnected(group->connections[static_cast<size_t>(
                              Draw(0, static_cast<int64_t>(group->connections.size()) - 1))],
                          "closed");
  }

  // All ranks of a dismissed group end, in any order.
  void End(const std::shared_ptr<FakeGroup>& group) {
    group->alive = false;
    std::vector<ConnectionId> connections = group->connections;
    std::ranges::shuffle(connections, random_);
    for (const ConnectionId connection : connections) region_->Disconnected(connection, "closed");
  }

  // What a group says after it was given up must be refused.
  void SpeakFromTheGrave(const std::shared_ptr<FakeGroup>& group) {
    const bool has_grace = std::ranges::any_of(
        region_->groups(), [&](const auto& entry) { return entry.second.epoch == group->epoch; });
    if (group->alive || has_grace) return;
    const ConnectionId leader = group->connections.front();
    EXPECT_FALSE(region_->Heartbeat(leader, group->epoch, 1, true));
    SequenceUpdate update;
    if (!region_->streams().empty()) update.id = region_->streams().begin()->second.sequence;
    update.tokens = {1};
    EXPECT_FALSE(region_->Update(leader, group->epoch, {update}, {}));
    RankRegistration rank = group->shape;
    EXPECT_EQ(region_->Register(next_connection_++, rank).kind, RegisterOutcome::Kind::kStale);
  }

  std::mt19937_64 random_;
  ManualClock clock_;
  std::unique_ptr<Region> region_;
  RegionInvariants invariants_;
  std::multimap<TimeNs, std::function<void()>> events_;
  std::map<ConnectionId, std::shared_ptr<FakeGroup>> groups_;  // By leader; all there ever were.
  std::map<StreamId, Received> received_;                      // Live ones.
  uint64_t next_group_id_ = 1;
  ConnectionId next_connection_ = 1;
  bool quiet_ = false;
  int64_t ended_ = 0;
  int64_t lost_ = 0;
  int64_t unsound_lost_ = 0;
  int64_t resumes_ = 0;  // By groups,
  int64_t resumed_ = 0;  // and by clients.
  int64_t drained_ = 0;
  std::array<int64_t, kKeys> ended_of_{};
};

// The parameter is the seed, so --gtest_filter=*/137 runs one again.
class RegionSimulation : public ::testing::TestWithParam<uint64_t> {};

TEST_P(RegionSimulation, EndsEveryStreamOnceWithItsOwnTokensUnderFaults) {
  Simulation simulation(GetParam());
  simulation.Run();
}

INSTANTIATE_TEST_SUITE_P(Seeds, RegionSimulation, ::testing::Range<uint64_t>(0, 200),
                         [](const auto& info) { return std::to_string(info.param); });

TEST(RegionSimulationItself, HasBothAnswersAndLosses) {
  int64_t ended = 0;
  int64_t lost = 0;
  int64_t unsound_lost = 0;
  int64_t resumes = 0;
  int64_t resumed = 0;
  int64_t drained = 0;
  std::array<int64_t, kKeys> ended_of{};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Simulation simulation(seed);
    simulation.Run();
    ended += simulation.ended();
    lost += simulation.lost();
    unsound_lost += simulation.unsound_lost();
    resumes += simulation.resumes();
    resumed += simulation.resumed();
    drained += simulation.drained();
    for (size_t key = 0; key < kKeys; ++key) ended_of[key] += simulation.ended_of(key);
  }
  EXPECT_GT(ended, 100);
  EXPECT_GT(lost, 0);
  EXPECT_GT(resumes, 10);
  EXPECT_GT(resumed, 10);
  EXPECT_GT(drained, 5);
  EXPECT_GT(unsound_lost, 0);
  for (const int64_t of_key : ended_of) EXPECT_GT(of_key, 20);
}

}  // namespace
}  // namespace shoal::core
