// Several models, and versions of one, side by side in one region.

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

RankRegistration Giraffe(uint64_t group_id) {
  RankRegistration rank = MakeRank(group_id);
  rank.model_name = "giraffe";
  rank.numerics_id = "ffffffffffffffffffffffffffffffff";
  rank.context_tokens = 32;
  rank.vocab_size = 50;
  return rank;
}

RankRegistration NewToy(uint64_t group_id) {
  RankRegistration rank = MakeRank(group_id);
  rank.numerics_id = "22222222222222222222222222222222";
  return rank;
}

// What clients may ask for, one a line: name, version's first digit, groups that are ready.
std::vector<std::string> Listed(const Region& region) {
  std::vector<std::string> lines;
  for (const ServedModel& model : region.models()) {
    lines.push_back(Str(model.name, " ", model.numerics_id.substr(0, 1), " ", model.groups_ready));
  }
  return lines;
}

Request For(const std::string& model, const std::string& numerics_id = "") {
  Request request{{1, 2, 3}, {}};
  request.params.tokens_max = 4;
  request.model = model;
  request.numerics_id = numerics_id;
  return request;
}

TEST(ChooseVersion, TakesWhatHasBeenReadyTheLongestAndSaysWhy) {
  ModelMap models;
  models[{"toy", "1"}].ready_since = 7;
  models[{"toy", "2"}].ready_since = 3;
  models[{"toy", "3"}].ready_since = 0;
  models[{"toys", "4"}].ready_since = 1;
  const auto oldest = ChooseVersion(models, "toy");
  ASSERT_TRUE(oldest.has_value());
  EXPECT_EQ(oldest->key, (ModelKey{"toy", "2"}));
  EXPECT_EQ(oldest->reason, "ready the longest of 2 versions");
  EXPECT_EQ(ChooseVersion(models, "toys")->reason, "the only version that is ready");
  EXPECT_EQ(ChooseVersion(models, "to"), std::nullopt);
  models[{"toy", "1"}].ready_since = models[{"toy", "2"}].ready_since = 0;
  EXPECT_EQ(ChooseVersion(models, "toy"), std::nullopt);
}

TEST_F(RegionTest, ServesEachRequestWithTheModelThatItNames) {
  JoinReady(1, MakeRank(1));
  JoinReady(2, Giraffe(2));
  EXPECT_THAT(Listed(region_), ElementsAre("toy 0 1", "giraffe f 1"));
  EXPECT_EQ(region_.models()[1].context_tokens, 32);
  EXPECT_EQ(region_.models()[1].vocab_size, 50);
  Submit(For("giraffe"));
  Submit(For("toy"));
  Submit(For(""));
  Submit(For("giraffe", Giraffe(1).numerics_id));
  std::vector<ConnectionId> leaders;
  for (const SubmitAction& submit : Select<SubmitAction>(Take())) leaders.push_back(submit.leader);
  EXPECT_THAT(leaders, ElementsAre(2, 1, 1, 2));
  EXPECT_EQ(Refuse(For("giraffe", MakeRank(1).numerics_id)).reason, BusyReason::kNoGroup);
  const StreamError unknown = Refuse(For("lion"));
  EXPECT_EQ(unknown.reason, BusyReason::kNoGroup);
  EXPECT_THAT(unknown.message, HasSubstr("lion"));
  Request large = For("giraffe");
  large.prompt.resize(32, 1);
  EXPECT_EQ(Refuse(large).reason, BusyReason::kTooLarge) << "the giraffe's context is shorter";
}

TEST_F(RegionTest, LetsNoModelFillTheQueueOfAnother) {
  JoinReady(1, MakeRank(1));
  const uint64_t giraffe = JoinReady(2, Giraffe(2));
  std::vector<StreamId> giraffes;
  for (int i = 0; i < 5; ++i) giraffes.push_back(Submit(For("giraffe")));
  EXPECT_EQ(Refuse(For("giraffe")).reason, BusyReason::kQueueFull);
  for (int i = 0; i < 5; ++i) Submit(For("toy"));
  EXPECT_EQ(region_.status().requests_waiting, 4);
  EXPECT_EQ(region_.models()[1].requests_waiting, 2);
  Take();
  EXPECT_TRUE(Answer(2, giraffe, giraffes[0], {1}, FinishReason::kStop));
  const auto next = Select<SubmitAction>(Take());
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_EQ(next[0].request.id, SequenceOf(giraffes[3]));
  EXPECT_EQ(next[0].leader, 2U);
}

TEST_F(RegionTest, FailsInTheEndOnlyWhatWaitsForTheModelThatIsGone) {
  JoinReady(1, MakeRank(1));
  JoinReady(2, Giraffe(2));
  for (int i = 0; i < 4; ++i) Submit(For("toy"));
  for (int i = 0; i < 4; ++i) Submit(For("giraffe"));
  Take();
  region_.Disconnected(2, "closed");
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty());
  KeepAlive(1, 3'000);
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(4));
  EXPECT_EQ(fails[3].error.reason, BusyReason::kGroupLost);
  EXPECT_THAT(fails[3].error.message, HasSubstr("giraffe"));
  EXPECT_THAT(region_.streams(), SizeIs(4));
  EXPECT_EQ(Refuse(For("giraffe")).reason, BusyReason::kNoGroup);
  EXPECT_THAT(Listed(region_), ElementsAre("toy 0 1", "giraffe f 0"));
}

TEST_F(RegionTest, GivesNewRequestsToTheVersionThatHasBeenReadyTheLongest) {
  JoinReady(1, MakeRank(1));
  Join(2, NewToy(2));
  const auto canary = Select<SubmitAction>(Take());
  ASSERT_THAT(canary, SizeIs(1));
  EXPECT_TRUE(region_.Update(2, 2, {AnswerCanary(canary[0])}, {}));
  const auto ready = Select<GroupReadyAction>(Take());
  ASSERT_THAT(ready, SizeIs(1));
  EXPECT_EQ(ready[0].serving.key, KeyOf(MakeRank(1))) << "the newcomer takes nothing yet";
  EXPECT_EQ(ready[0].serving.reason, "ready the longest of 2 versions");
  const StreamId old = Submit(For("toy"));
  Submit(For("toy", NewToy(2).numerics_id));
  Take();
  EXPECT_THAT(Listed(region_), ElementsAre("toy 0 1", "toy 2 1"));
  EXPECT_EQ(JoinNames(region_.models()), "toy");

  region_.Disconnected(1, "closed");
  const auto actions = Take();
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty()) << "another version cannot go on with it";
  EXPECT_EQ(region_.streams().at(old).group, std::nullopt);
  const StreamId next = Submit(For("toy"));
  Take();
  EXPECT_EQ(region_.streams().at(next).key, KeyOf(NewToy(2)));
  Join(3, MakeRank(3));
  const auto back = Select<SubmitAction>(Take());
  EXPECT_TRUE(region_.Update(3, back[0].epoch, {AnswerCanary(back[0])}, {}));
  EXPECT_THAT(Listed(region_), ElementsAre("toy 2 1", "toy 0 1")) << "who comes back is the newer";
  const auto resumed = Select<SubmitAction>(Take());
  ASSERT_THAT(resumed, SizeIs(1));
  EXPECT_EQ(resumed[0].request.stream, old);
}

TEST_F(RegionTest, KeepsAVersionReadyWhileAnyGroupOfItIs) {
  JoinReady(1, MakeRank(1));
  JoinReady(2, NewToy(2));
  JoinReady(3, MakeRank(3));
  region_.Disconnected(1, "closed");
  Take();
  EXPECT_THAT(Listed(region_), ElementsAre("toy 0 1", "toy 2 1"));
}

TEST_F(RegionTest, RefusesAGroupOfOneVersionWithAnotherContext) {
  JoinReady(1, MakeRank(1));
  RankRegistration other = MakeRank(2);
  other.context_tokens = 128;
  const RegisterOutcome outcome = region_.Register(2, other);
  EXPECT_EQ(outcome.kind, RegisterOutcome::Kind::kMismatch);
  EXPECT_THAT(outcome.message, HasSubstr("a context of 64 tokens"));
  EXPECT_THAT(outcome.message, HasSubstr("has 128"));
  JoinReady(3, Giraffe(3));
}

class OwnModelTest : public ::testing::Test {
 protected:
  static RegionOptions Options(bool other_models) {
    RegionOptions options;
    options.model_name = "toy";
    options.served_model_name = "little";
    options.other_models = other_models;
    return options;
  }

  ManualClock clock_;
};

TEST_F(OwnModelTest, IsTheOnlyOneUnlessOthersMayJoin) {
  Region region(Options(false), clock_, MakeTestRandom());
  const RegisterOutcome outcome = region.Register(1, Giraffe(1));
  EXPECT_EQ(outcome.kind, RegisterOutcome::Kind::kMismatch);
  EXPECT_THAT(outcome.message, HasSubstr("serves model toy"));
  EXPECT_THAT(outcome.message, HasSubstr("--other-models"));
  EXPECT_EQ(region.Register(2, NewToy(2)).kind, RegisterOutcome::Kind::kAccepted);
}

TEST_F(OwnModelTest, IsListedFirstAlsoBeforeItsFirstGroupAndHasTheServedName) {
  Region region(Options(true), clock_, MakeTestRandom());
  EXPECT_THAT(Listed(region), ElementsAre("little  0"));
  EXPECT_EQ(region.Register(1, Giraffe(1)).kind, RegisterOutcome::Kind::kAccepted);
  EXPECT_THAT(Listed(region), ElementsAre("little  0", "giraffe f 0"));
  region.Register(2, MakeRank(2));
  EXPECT_THAT(Listed(region), ElementsAre("little 0 0", "giraffe f 0"));
  EXPECT_EQ(region.models().front().model_name, "toy");

  RankRegistration impostor = Giraffe(3);
  impostor.model_name = "little";
  EXPECT_THAT(region.Register(3, impostor).message, HasSubstr("another of that name"));
}

TEST_F(OwnModelTest, IsKnownToClientsByItsServedNameAlone) {
  Region region(Options(true), clock_, MakeTestRandom());
  const uint64_t epoch = region.Register(2, MakeRank(2)).epoch;
  const auto canary = Select<SubmitAction>(region.TakeActions()).front();
  ASSERT_TRUE(region.Update(2, epoch, {AnswerCanary(canary)}, {}));
  for (const char* name : {"", "little"}) {
    EXPECT_TRUE(std::holds_alternative<StreamId>(region.Submit(For(name)))) << name;
  }
  EXPECT_TRUE(std::holds_alternative<StreamError>(region.Submit(For("toy"))));
}

TEST(Groups, RemembersABoundedNumberOfModelsThatAreGone) {
  RegionOptions options;
  Groups groups(options);
  RankRegistration rank = MakeRank(0);
  for (uint64_t i = 0; i < kModelsRememberedMax + 5; ++i) {
    rank.group_id = i + 1;
    rank.numerics_id = Str(1000 + i);
    const RegisterOutcome outcome = groups.Register(i + 1, rank);
    groups.SetReady(groups.at(outcome.group), "digest");
    groups.Remove(outcome.group, "closed");
  }
  EXPECT_THAT(groups.models(), SizeIs(kModelsRememberedMax));
  EXPECT_EQ(groups.models().begin()->first.numerics_id, "1005") << "the oldest are forgotten";
  EXPECT_THAT(groups.all(), IsEmpty());
}

}  // namespace
}  // namespace shoal::core
