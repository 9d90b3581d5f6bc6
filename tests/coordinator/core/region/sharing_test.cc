// Requests that ask for the same are computed once, and each of their clients has a whole answer.

#include <algorithm>
#include <optional>

#include "tests/coordinator/core/region_fixture.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Tokens = std::vector<int32_t>;

class Sharing : public RegionTest {
 protected:
  explicit Sharing(const RegionOptions& options = Options()) : RegionTest(options) {}

  // Its temperature is 0, unless a test says otherwise.
  static Request Same(std::string name = "") {
    Request request = MakeRequest(/*tokens_max=*/8);
    request.params.sampling.temperature = 0;
    request.shares = true;
    request.terms.name = std::move(name);
    return request;
  }

  StreamId Take1(Request request) {
    const auto outcome = region_.Submit(std::move(request));
    EXPECT_TRUE(std::holds_alternative<StreamId>(outcome))
        << std::get<StreamError>(outcome).message;
    return std::get<StreamId>(outcome);
  }

  std::vector<Action> TakeAll() {
    EXPECT_EQ(region_.FindBrokenInvariant(), "");
    std::vector<Action> actions = region_.TakeActions();
    for (const SubmitAction& submit : Select<SubmitAction>(actions)) {
      sequences_[submit.request.stream] = submit.request.id;
    }
    return actions;
  }

  static std::vector<StreamId> Failed(const std::vector<Action>& actions) {
    std::vector<StreamId> failed;
    for (const FailAction& fail : Select<FailAction>(actions)) failed.push_back(fail.stream);
    return failed;
  }

  // The records of that kind, by the names of their requests.
  std::vector<std::string> Noted(RecordKind kind) const {
    std::vector<std::string> names;
    for (const Record& record : region_.recorder().Find({}).records) {
      if (record.kind == kind) names.push_back(record.request);
    }
    return names;
  }
};

TEST_F(Sharing, ComputesAHundredEqualRequestsOnce) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  std::vector<StreamId> readers;
  for (int i = 0; i < 50; ++i) readers.push_back(Take1(Same()));
  std::vector<Action> actions = TakeAll();
  EXPECT_THAT(Select<SubmitAction>(actions), SizeIs(1));
  EXPECT_TRUE(Answer(1, epoch, readers[0], {4, 5}));
  // Those that come while it is computed hear what came before them, too.
  for (int i = 0; i < 50; ++i) readers.push_back(Take1(Same()));
  EXPECT_TRUE(Answer(1, epoch, readers[0], {6}, FinishReason::kStop));
  for (Action& action : TakeAll()) actions.push_back(std::move(action));
  EXPECT_THAT(Select<SubmitAction>(actions), SizeIs(1));
  std::ranges::sort(readers);
  EXPECT_TRUE(std::ranges::adjacent_find(readers) == readers.end());
  for (const StreamId reader : readers) {
    const SequenceUpdate heard = Heard(actions, reader);
    EXPECT_EQ(heard.tokens, (Tokens{4, 5, 6})) << reader;
    EXPECT_EQ(heard.finish, FinishReason::kStop) << reader;
  }
  EXPECT_EQ(region_.status().requests_total, 100);
  EXPECT_EQ(region_.status().requests_coalesced_total, 99);
  EXPECT_TRUE(region_.streams().empty());
  Take1(Same());  // What has ended is not shared: it is no cache.
  EXPECT_THAT(Select<SubmitAction>(TakeAll()), SizeIs(1));
}

TEST_F(Sharing, TellsLogprobsAndCachedTokensToWhoeverComesLate) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  Request request = Same();
  request.params.prompt_logprobs = true;
  request.params.top_logprobs = 0;
  const StreamId first = Take1(request);
  TakeAll();
  SequenceUpdate update;
  update.id = SequenceOf(first);
  update.tokens = {4};
  update.logprobs = {{-1.0F, {}}};
  update.prompt_logprobs = {{-2.0F, {}}, {-3.0F, {}}};
  update.cached_tokens = 2;
  EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
  TakeAll();
  const StreamId late = Take1(request);
  const SequenceUpdate heard = Heard(TakeAll(), late);
  EXPECT_EQ(heard.tokens, Tokens{4});
  EXPECT_EQ(heard.logprobs, update.logprobs);
  EXPECT_EQ(heard.prompt_logprobs, update.prompt_logprobs);
  EXPECT_EQ(heard.cached_tokens, 2);
}

struct Difference {
  std::string name;
  std::function<void(Request&)> make;
  bool shared = false;
};

TEST_F(Sharing, SharesOnlyWhatWouldBeTheSame) {
  JoinReady(1, MakeRank(1));
  const std::vector<Difference> cases = {
      {"seed of an arg max", [](Request& r) { r.params.sampling.seed = 9; }, true},
      {"choice of an arg max", [](Request& r) { r.params.sampling.choice = 1; }, true},
      {"name", [](Request& r) { r.terms.name = "other"; }, true},
      {"session", [](Request& r) { r.terms.session = "s"; }, true},
      {"attempt", [](Request& r) { r.terms.attempt = 2; }, true},
      {"same class, said", [](Request& r) { r.terms.service_class = ServiceClass::kCritical; },
       true},
      {"tenant", [](Request& r) { r.terms.tenant = "b"; }},
      {"class", [](Request& r) { r.terms.service_class = ServiceClass::kSheddable; }},
      {"prompt",
       [](Request& r) {
         r.prompt = {1, 1, 2};
       }},
      {"tokens_max", [](Request& r) { r.params.tokens_max = 7; }},
      {"temperature", [](Request& r) { r.params.sampling.temperature = 1; }},
      {"penalty", [](Request& r) { r.params.sampling.presence_penalty = 1; }},
      {"stop ids", [](Request& r) { r.params.stop_ids = {3}; }},
      {"logprobs", [](Request& r) { r.params.top_logprobs = 0; }},
      {"priority", [](Request& r) { r.params.priority = 1; }},
      {"cache salt", [](Request& r) { r.params.cache_salt = "x"; }},
      {"resumable", [](Request& r) { r.resumable = true; }},
      {"unseeded", [](Request& r) { r.shares = false; }},
  };
  for (const Difference& difference : cases) {
    const StreamId first = Take1(Same());
    Request other = Same();
    difference.make(other);
    const int64_t before = region_.status().requests_coalesced_total;
    const StreamId second = Take1(other);
    EXPECT_EQ(region_.status().requests_coalesced_total - before, difference.shared ? 1 : 0)
        << difference.name;
    region_.Cancel(second);
    region_.Cancel(first);
    TakeAll();
    EXPECT_TRUE(region_.streams().empty()) << difference.name;
  }
}

TEST_F(Sharing, SharesWhatIsSampledFromOneSeedAndOfOneChoice) {
  JoinReady(1, MakeRank(1));
  Request seeded = Same();
  seeded.params.sampling.temperature = 1;
  seeded.params.sampling.seed = 7;
  Take1(seeded);
  Take1(seeded);
  Request choice = seeded;
  choice.params.sampling.choice = 1;
  Take1(choice);
  Request seed = seeded;
  seed.params.sampling.seed = 8;
  Take1(seed);
  EXPECT_EQ(region_.status().requests_coalesced_total, 1);
}

TEST_F(Sharing, GoesOnForTheOthersWhenOneLeaves) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId first = Take1(Same("first"));
  const StreamId second = Take1(Same("second"));
  const StreamId third = Take1(Same("third"));
  TakeAll();
  region_.Cancel(second);
  region_.Cancel(first);
  region_.Cancel(first);  // Nothing more can be made of it.
  EXPECT_TRUE(Answer(1, epoch, first, {4}));
  std::vector<Action> actions = TakeAll();
  EXPECT_THAT(Select<CancelAction>(actions), IsEmpty());
  for (const DeliverAction& deliver : Select<DeliverAction>(actions)) {
    EXPECT_EQ(deliver.stream, third);
  }
  EXPECT_EQ(Heard(actions, third).tokens, Tokens{4});
  region_.Detach(third);  // It is not resumable: the last one takes the stream along.
  EXPECT_THAT(Select<CancelAction>(TakeAll()), SizeIs(1));
  EXPECT_TRUE(region_.streams().empty());
  EXPECT_THAT(Noted(RecordKind::kCancelled), ElementsAre("second", "first", "third"));
  EXPECT_THAT(Noted(RecordKind::kJoined), ElementsAre("second", "third"));
}

TEST_F(Sharing, TellsAllOfAFailureAndGoesOnForAllInAnotherGroup) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId first = Take1(Same());
  const StreamId second = Take1(Same());
  TakeAll();
  EXPECT_TRUE(Answer(1, epoch, first, {4}));
  std::vector<Action> actions = TakeAll();
  region_.Disconnected(1, "it died");
  const uint64_t next = Join(2, MakeRank(2)).front().epoch;
  const auto canaries = Select<SubmitAction>(TakeAll());
  ASSERT_THAT(canaries, SizeIs(1));
  EXPECT_TRUE(region_.Update(2, next, {AnswerCanary(canaries[0])}, {}));
  EXPECT_THAT(Select<SubmitAction>(TakeAll()), SizeIs(1));
  EXPECT_TRUE(Answer(2, next, sequences_.at(first), {5}, FinishReason::kStop, 1));
  for (Action& action : TakeAll()) actions.push_back(std::move(action));
  EXPECT_EQ(Heard(actions, first).tokens, (Tokens{4, 5}));
  EXPECT_EQ(Heard(actions, second).tokens, (Tokens{4, 5}));

  const StreamId third = Take1(Same());
  const StreamId fourth = Take1(Same());
  TakeAll();
  region_.Stop();
  std::vector<StreamId> failed = Failed(TakeAll());
  EXPECT_THAT(failed, ::testing::UnorderedElementsAre(third, fourth));
}

TEST_F(Sharing, EndsEachAtItsOwnDeadline) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  Request soon = Same();
  soon.terms.deadline_ms = 300;
  Request late = Same();
  late.terms.deadline_ms = 900;
  const StreamId first = Take1(soon);
  const auto submits = Select<SubmitAction>(TakeAll());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.deadline_ms, 1'300);  // With the slack for those who join.
  const StreamId second = Take1(late);
  EXPECT_EQ(region_.status().requests_coalesced_total, 1);
  KeepAlive(1, 300);
  std::vector<Action> actions = TakeAll();
  EXPECT_THAT(Failed(actions), ElementsAre(first));
  EXPECT_THAT(Select<FailAction>(actions)[0].error.reason, BusyReason::kDeadlineExceeded);
  EXPECT_TRUE(Answer(1, epoch, first, {4}, FinishReason::kStop));
  EXPECT_EQ(Heard(TakeAll(), second).tokens, Tokens{4});
}

TEST_F(Sharing, LeavesAloneWhatItsGroupWouldEndTooEarly) {
  JoinReady(1, MakeRank(1));
  Request soon = Same();
  soon.terms.deadline_ms = 300;
  Take1(soon);
  TakeAll();
  Take1(Same());  // It has no deadline.
  EXPECT_THAT(Select<SubmitAction>(TakeAll()), SizeIs(1));
  Take1(soon);  // Two of them can be joined now.
  EXPECT_EQ(region_.status().requests_coalesced_total, 1);
}

class SharingByQuota : public Sharing {
 protected:
  SharingByQuota() : Sharing(Bounded()) {}

  static RegionOptions Bounded() {
    RegionOptions options = Options();
    auto policy = std::make_shared<TenantsPolicy>();
    policy->defaults.requests_in_flight_max = 3;
    options.tenants = std::move(policy);
    return options;
  }
};

TEST_F(SharingByQuota, CountsEachInFlightUntilItEnds) {
  JoinReady(1, MakeRank(1));
  const StreamId first = Take1(Same());
  Take1(Same());
  const StreamId third = Take1(Same());
  const StreamError refusal = Refuse(Same("fourth"));
  EXPECT_EQ(refusal.reason, BusyReason::kQuotaExceeded);
  EXPECT_EQ(region_.PreCheck({}).value().reason, BusyReason::kQuotaExceeded);
  EXPECT_THAT(Noted(RecordKind::kRejected), ElementsAre("fourth", ""));
  // Whoever leaves makes room for one, the first one too, which paid for all.
  region_.Cancel(first);
  EXPECT_FALSE(region_.PreCheck({}));
  Take1(Same());
  EXPECT_TRUE(region_.PreCheck({}));
  region_.Cancel(third);
  Take1(Same());
  EXPECT_TRUE(region_.PreCheck({}));
  TakeAll();
}

class NotSharing : public Sharing {
 protected:
  NotSharing() : Sharing(Off()) {}

  static RegionOptions Off() {
    RegionOptions options = Options();
    options.coalesce = false;
    return options;
  }
};

TEST_F(NotSharing, ComputesEachWhereItIsTurnedOff) {
  JoinReady(1, MakeRank(1));
  Take1(Same());
  Take1(Same());
  EXPECT_THAT(Select<SubmitAction>(TakeAll()), SizeIs(2));
  EXPECT_EQ(region_.status().requests_coalesced_total, 0);
}

TEST_F(Sharing, RefusesAnIdThatASharerHas) {
  JoinReady(1, MakeRank(1));
  Take1(Same());
  Request named = Same();
  named.stream = StreamId{5, 6};
  EXPECT_EQ(Take1(named), (StreamId{5, 6}));
  const StreamError refusal = Refuse(named);
  EXPECT_EQ(refusal.reason, BusyReason::kInvalid);
  EXPECT_THAT(refusal.message, HasSubstr("already"));
}

TEST_F(Sharing, BoundsHowManyShareOneStream) {
  JoinReady(1, MakeRank(1));
  for (size_t i = 0; i <= kSharersMax; ++i) Take1(Same());
  EXPECT_THAT(Select<SubmitAction>(TakeAll()), SizeIs(2));
}

// Before anything is read: whatever it asks for, there is no room.
TEST_F(Sharing, RefusesBeforehandWhenAllIsFullAndNothingCanBeShared) {
  RankRegistration rank = MakeRank(1);
  EXPECT_FALSE(region_.PreCheck({}));  // No group yet: what is asked for decides.
  JoinReady(1, rank);
  Request own = MakeRequest();
  while (region_.status().requests_waiting < 2) Take1(own);
  const std::optional<StreamError> refusal = region_.PreCheck({});
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->reason, BusyReason::kQueueFull);
  EXPECT_EQ(Refuse(own).reason, BusyReason::kQueueFull);
  const auto waiting = std::ranges::find_if(region_.streams(),
                                            [](const auto& entry) { return !entry.second.group; });
  ASSERT_TRUE(waiting != region_.streams().end());
  region_.Cancel(waiting->first);
  TakeAll();
  EXPECT_FALSE(region_.PreCheck({}));
}

}  // namespace
}  // namespace shoal::core
