// What a region makes of tenants and classes: who is dispatched, displaced, refused.

#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::shared_ptr<TenantsPolicy> MakeFairPolicy() {
  auto policy = std::make_shared<TenantsPolicy>();
  policy->tenants = {{.name = "vip", .service_class = ServiceClass::kCriticalPlus},
                     {.name = "a"},
                     {.name = "b"},
                     {.name = "low", .service_class = ServiceClass::kSheddable},
                     {.name = "metered", .tokens_per_second = 10, .burst_tokens = 14}};
  return policy;
}

class RegionFairTest : public RegionTest {
 protected:
  explicit RegionFairTest(RegionOptions options = FairOptions()) : RegionTest(options) {}

  static RegionOptions FairOptions() {
    RegionOptions options = Options();
    options.tenants = MakeFairPolicy();
    options.dispatch_ahead = 1;
    return options;
  }

  // One sequence in its steps, and room for 20 more in its leader.
  static RankRegistration MakeSlow() {
    RankRegistration rank = MakeRank(1);
    rank.sequences_max = 1;
    rank.queue_requests_max = 20;
    return rank;
  }

  static Request Of(const std::string& tenant, int32_t attempt = 1) {
    Request request = MakeRequest();
    request.terms.tenant = tenant;
    request.terms.attempt = attempt;
    return request;
  }

  // Tenants of what leaders were given since the last call.
  std::vector<std::string> Given() {
    std::vector<std::string> tenants;
    for (const SubmitAction& submit : Select<SubmitAction>(Take())) {
      tenants.push_back(submit.request.tenant);
    }
    return tenants;
  }
};

TEST_F(RegionFairTest, GivesALeaderAFewAheadAndBetterClassesBesides) {
  const uint64_t epoch = JoinReady(1, MakeSlow());
  const StreamId first = Submit(Of("low"));
  for (const char* tenant : {"low", "low"}) Submit(Of(tenant));
  EXPECT_THAT(Given(), ElementsAre("low", "low")) << "one to run, and one ahead";
  for (const char* tenant : {"a", "vip", "a", "b"}) Submit(Of(tenant));
  EXPECT_THAT(Given(), ElementsAre("a", "vip")) << "which its leader places before the others";
  EXPECT_TRUE(Answer(1, epoch, first, {4}, FinishReason::kStop));
  EXPECT_THAT(Given(), IsEmpty()) << "it has enough of better ones";
}

// As full of worse ones as it may be, the leader has a place for the best one at once.
TEST_F(RegionFairTest, NeverFillsALeaderSoThatABetterClassFindsNoPlace) {
  RankRegistration rank = MakeSlow();
  rank.queue_requests_max =
      static_cast<int32_t>(LeaderQueueMax(region_.options(), rank.sequences_max));
  JoinReady(1, rank);
  Request middle = Of("a");
  middle.terms.service_class = ServiceClass::kSheddablePlus;
  for (int i = 0; i < 3; ++i) Submit(Of("low"));
  for (int i = 0; i < 2; ++i) Submit(middle);
  for (int i = 0; i < 2; ++i) Submit(Of("a"));
  EXPECT_THAT(Given(), SizeIs(6)) << "two of each, and the third of the lowest waits here";
  for (int i = 0; i < 2; ++i) Submit(Of("vip"));
  EXPECT_THAT(Given(), ElementsAre("vip", "vip"));
}

TEST_F(RegionFairTest, DispatchesByClassAndThenTenantsInTurns) {
  const uint64_t epoch = JoinReady(1, MakeSlow());
  std::vector<StreamId> given = {Submit(Of("vip")), Submit(Of("vip"))};
  Given();
  std::vector<std::string> order;
  for (const char* tenant : {"a", "b"}) Submit(Of(tenant));
  for (const StreamId stream : given) {
    EXPECT_TRUE(Answer(1, epoch, stream, {4}, FinishReason::kStop));
    for (const std::string& tenant : Given()) order.push_back(tenant);
  }
  EXPECT_THAT(order, ElementsAre("a", "b"));
}

TEST_F(RegionFairTest, DisplacesTheNewestOfTheLowestClassFromAFullQueue) {
  JoinReady(1, MakeSlow());
  for (const char* tenant : {"vip", "vip"}) Submit(Of(tenant));
  const StreamId older = Submit(Of("low"));
  const StreamId newer = Submit(Of("low"));
  EXPECT_EQ(Refuse(Of("low")).reason, BusyReason::kQueueFull);
  Take();
  Submit(Of("a"));
  auto failed = Select<FailAction>(Take());
  ASSERT_THAT(failed, SizeIs(1));
  EXPECT_EQ(failed[0].stream, newer);
  EXPECT_EQ(failed[0].error.reason, BusyReason::kQueueFull);
  EXPECT_EQ(failed[0].error.retry_after_ms, 1'000);
  EXPECT_THAT(failed[0].error.message, HasSubstr("a request of class critical took the place"));
  Submit(Of("vip"));
  failed = Select<FailAction>(Take());
  ASSERT_THAT(failed, SizeIs(1));
  EXPECT_EQ(failed[0].stream, older);
  EXPECT_EQ(region_.tenants().held().count("low"), 0u);
  const auto records = region_.recorder().Find({}).records;
  EXPECT_EQ(std::ranges::count(records, BusyReason::kQueueFull, &Record::reason), 3);
}

TEST_F(RegionFairTest, TellsWhomeverItHasNoRoomForHowLongItWouldWaitAndWhenToComeAgain) {
  const uint64_t epoch = JoinReady(1, MakeSlow());
  SchedulerStats stats;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(region_.Update(1, epoch, {}, stats));
    stats.steps_total += 10;
    stats.busy_us_total += 10'000'000;  // A step takes a second.
    stats.prompt_rows_total += 1;
    stats.generated_tokens_total += 10;
  }
  for (const char* tenant : {"vip", "vip", "low", "low"}) Submit(Of(tenant));
  Take();
  const auto check = [](const StreamError& error) {
    EXPECT_EQ(error.reason, BusyReason::kQueueFull);
    EXPECT_GT(error.predicted_wait_ms, 4'000) << "four tokens of each that is ahead";
    EXPECT_EQ(error.retry_after_ms, error.predicted_wait_ms / 2);
  };
  check(Refuse(Of("low")));
  const auto before_reading = region_.PreCheck(Of("low").terms);
  ASSERT_TRUE(before_reading);
  check(*before_reading);
  Submit(Of("a"));
  const auto displaced = Select<FailAction>(Take());
  ASSERT_THAT(displaced, SizeIs(1));
  check(displaced[0].error);
}

// No worse one is admitted in a window in which a better one was refused for want of room.
TEST_F(RegionFairTest, TakesNoWorseOneForAWhileAfterABetterOneWasRefused) {
  const uint64_t epoch = JoinReady(1, MakeSlow());
  const StreamId first = Submit(Of("a"));
  for (const char* tenant : {"a", "b", "a"}) Submit(Of(tenant));
  EXPECT_EQ(Refuse(Of("b")).reason, BusyReason::kQueueFull);
  Take();
  EXPECT_TRUE(Answer(1, epoch, first, {4}, FinishReason::kStop));
  Take();
  EXPECT_THAT(Refuse(Of("low")).message, HasSubstr("no room for requests of class critical"));
  Submit(Of("b"));
  Take();
  KeepAlive(1, 1'000);
  EXPECT_THAT(Refuse(Of("low")).message, HasSubstr("all groups are full"));
}

TEST_F(RegionFairTest, GivesUpARetryForAFirstAttempt) {
  JoinReady(1, MakeSlow());
  for (const char* tenant : {"a", "a"}) Submit(Of(tenant));
  const StreamId retry = Submit(Of("a", 2));
  Submit(Of("a"));
  Take();
  Submit(Of("a"));
  const auto failed = Select<FailAction>(Take());
  ASSERT_THAT(failed, SizeIs(1));
  EXPECT_EQ(failed[0].stream, retry);
}

// Whatever they are refused for, and be it before they are read: each is counted once.
TEST_F(RegionFairTest, BoundsTheRetriesOfWhatIsRefused) {
  JoinReady(1, MakeSlow());
  for (const char* tenant : {"vip", "vip", "a", "a"}) Submit(Of(tenant));
  Take();
  const auto refused = [&](int32_t attempt) {
    const auto error = region_.PreCheck(Of("a", attempt).terms);
    return error ? error->reason : BusyReason::kInvalid;
  };
  Request too_large = Of("a", 2);
  too_large.prompt.assign(1'000, 1);
  EXPECT_EQ(Refuse(too_large).reason, BusyReason::kTooLarge);
  for (int i = 1; i < kRetriesMin; ++i) EXPECT_EQ(refused(2), BusyReason::kQueueFull);
  EXPECT_EQ(refused(2), BusyReason::kQuotaExceeded);
  EXPECT_EQ(Refuse(too_large).reason, BusyReason::kQuotaExceeded);
  // Those that were refused count as requests, too: with the two that wait there are 43.
  for (int i = 0; i < 41; ++i) EXPECT_EQ(refused(1), BusyReason::kQueueFull);
  EXPECT_EQ(refused(2), BusyReason::kQuotaExceeded) << "11 of 54";
  EXPECT_EQ(refused(1), BusyReason::kQueueFull);
  EXPECT_EQ(refused(2), BusyReason::kQueueFull) << "11 of 55";
}

TEST_F(RegionFairTest, ChargesWhatWasAdmittedAndGivesBackWhatWasNotUsed) {
  const uint64_t epoch = JoinReady(1, MakeSlow());
  const StreamId stream = Submit(Of("metered"));  // 3 of the prompt, 4 of the answer.
  const StreamId waiting = Submit(Of("metered"));
  EXPECT_EQ(Refuse(Of("metered")).reason, BusyReason::kQuotaExceeded);
  EXPECT_EQ(Refuse(Of("metered")).retry_after_ms, 700);
  Take();
  EXPECT_TRUE(Answer(1, epoch, stream, {4}, FinishReason::kStop));
  Take();
  EXPECT_EQ(Refuse(Of("metered")).retry_after_ms, 400) << "3 and 1 were used: 3 are back";
  Cancel(waiting);
  Take();
  Submit(Of("metered"));
}

TEST_F(RegionFairTest, GivesBackAllThatARequestWasChargedThatNeverHadAGroup) {
  JoinReady(1, MakeSlow());
  for (const char* tenant : {"a", "a"}) Submit(Of(tenant));
  Submit(Of("metered"));
  Cancel(Submit(Of("metered")));
  Take();
  Submit(Of("metered"));
  EXPECT_EQ(region_.tenants().held().at("metered"), (Tenants::Held{2, 14}));
}

TEST_F(RegionFairTest, TakesUpANewPolicyAtOnce) {
  JoinReady(1, MakeSlow());
  Submit(Of("metered"));
  Take();
  auto policy = MakeFairPolicy();
  policy->tenants.back().requests_in_flight_max = 1;
  region_.SetTenants(policy);
  EXPECT_THAT(Refuse(Of("metered")).message, HasSubstr("its bound is 1"));
  policy = MakeFairPolicy();
  policy->tenants.pop_back();
  region_.SetTenants(policy);
  EXPECT_EQ(region_.streams().at(Submit(Of("metered"))).grant.tenant, "");
  Take();
}

class RegionUnprotectedTest : public RegionFairTest {
 protected:
  static RegionOptions Unprotected() {
    RegionOptions options = FairOptions();
    options.protections.admission = false;
    return options;
  }
  RegionUnprotectedTest() : RegionFairTest(Unprotected()) {}
};

TEST_F(RegionUnprotectedTest, IsOneLineThatFillsTheLeaders) {
  RankRegistration rank = MakeSlow();
  rank.queue_requests_max = 1;
  const uint64_t epoch = JoinReady(1, rank);
  const StreamId first = Submit(Of("low"));
  for (const char* tenant : {"low", "low", "vip"}) Submit(Of(tenant));
  EXPECT_EQ(Refuse(Of("vip")).reason, BusyReason::kQueueFull);
  const auto given = Select<SubmitAction>(Take());
  ASSERT_THAT(given, SizeIs(2));
  EXPECT_EQ(given[0].request.service_class, ServiceClass::kCritical) << "all are alike";
  EXPECT_TRUE(Answer(1, epoch, first, {4}, FinishReason::kStop));
  EXPECT_THAT(Given(), ElementsAre("low"));
}

class RegionShapedTest : public RegionFairTest {
 protected:
  static RegionOptions Shaped() {
    RegionOptions options = FairOptions();
    auto policy = MakeFairPolicy();
    policy->shape_tokens_per_second = 70;  // Ten requests.
    options.tenants = policy;
    options.queue_requests_max = 1'000;
    options.dispatch_ahead = 1'000;
    return options;
  }
  RegionShapedTest() : RegionFairTest(Shaped()) {}
};

TEST_F(RegionShapedTest, GivesAGroupWorkAtAConstantRateHoweverItComes) {
  RankRegistration rank = MakeSlow();
  rank.queue_requests_max = 1'000;
  JoinReady(1, rank);
  for (int i = 0; i < 500; ++i) Submit(Of("a"));
  size_t given = Given().size();
  EXPECT_LE(given, 3u) << "what a late tick may owe";
  for (int second = 1; second <= 20; ++second) {
    KeepAlive(1, 1'000);
    given += Given().size();
    EXPECT_NEAR(static_cast<double>(given), 10.0 * second, 4);
  }
  region_.SetTenants(MakeFairPolicy());
  EXPECT_THAT(Given(), SizeIs(500 - given)) << "without a rate all go";
}

class RegionShapedShortTest : public RegionFairTest {
 protected:
  static RegionOptions Short() {
    RegionOptions options = FairOptions();
    auto policy = MakeFairPolicy();
    policy->shape_tokens_per_second = 7;  // One of these requests.
    options.tenants = policy;
    options.queue_requests_max = 1;
    return options;
  }
  RegionShapedShortTest() : RegionFairTest(Short()) {}
};

TEST_F(RegionShapedShortTest, GivesAGroupWhatItsRateAllowsByNowBeforeItIsHeldToBeFull) {
  JoinReady(1, MakeSlow());
  for (const char* tenant : {"low", "low"}) Submit(Of(tenant));
  EXPECT_THAT(Given(), SizeIs(1));
  EXPECT_EQ(Refuse(Of("low")).reason, BusyReason::kQueueFull) << "it has had its rate, one waits";
  clock_.Advance(1'500);
  Submit(Of("vip"));
  const std::vector<Action> actions = Take();
  EXPECT_THAT(Select<FailAction>(actions), IsEmpty()) << "nobody has to go";
  const auto given = Select<SubmitAction>(actions);
  ASSERT_THAT(given, SizeIs(1));
  EXPECT_EQ(given[0].request.tenant, "low");
}

}  // namespace
}  // namespace shoal::core
