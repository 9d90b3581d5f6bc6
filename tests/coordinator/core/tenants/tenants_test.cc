// Tenants: who is charged, who is refused and told what.

#include "coordinator/core/tenants/tenants.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::core {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<TenantsPolicy> MakePolicy() {
  auto policy = std::make_shared<TenantsPolicy>();
  policy->tenants = {{.name = "vip", .service_class = ServiceClass::kCriticalPlus, .weight = 3},
                     {.name = "small",
                      .service_class = ServiceClass::kSheddable,
                      .tokens_per_second = 10,
                      .burst_tokens = 100,
                      .requests_in_flight_max = 2}};
  return policy;
}

RequestTerms Of(const std::string& tenant) { return {.tenant = tenant}; }

Grant Charge(Tenants& tenants, const std::string& tenant, int64_t tokens, TimeNs now = 0) {
  return std::get<Grant>(tenants.Charge(Of(tenant), tokens, now));
}

StreamError Refuse(Tenants& tenants, const std::string& tenant, int64_t tokens, TimeNs now = 0) {
  return std::get<StreamError>(tenants.Charge(Of(tenant), tokens, now));
}

TEST(Tenants, GrantAClassAtMostTheTenantsOwn) {
  const Tenants tenants(MakePolicy(), true);
  RequestTerms terms = Of("small");
  EXPECT_EQ(tenants.ClassOf(terms), ServiceClass::kSheddable);
  terms.service_class = ServiceClass::kCriticalPlus;
  EXPECT_EQ(tenants.ClassOf(terms), ServiceClass::kSheddable);
  terms = Of("vip");
  terms.service_class = ServiceClass::kSheddablePlus;
  EXPECT_EQ(tenants.ClassOf(terms), ServiceClass::kSheddablePlus);
}

TEST(Tenants, ChargeAQuotaAndGiveBackWhatWasNotUsed) {
  Tenants tenants(MakePolicy(), true);
  const Grant grant = Charge(tenants, "small", 90);
  EXPECT_EQ(grant.tokens, 90);
  const StreamError refusal = Refuse(tenants, "small", 30);
  EXPECT_EQ(refusal.reason, BusyReason::kQuotaExceeded);
  EXPECT_EQ(refusal.retry_after_ms, 2'000) << "20 tokens are lacking, 10 come a second";
  EXPECT_THAT(refusal.message,
              HasSubstr("the quota of tenant small is 10 tokens of work a second"));
  tenants.End(grant, 25, 0);
  EXPECT_EQ(Charge(tenants, "small", 75).tokens, 75);
  EXPECT_EQ(Refuse(tenants, "small", 1).retry_after_ms, 100);
  EXPECT_EQ(tenants.held(), (std::map<std::string, Tenants::Held>{{"small", {1, 75}}}));
}

TEST(Tenants, RefuseForGoodWhatNeverFits) {
  Tenants tenants(MakePolicy(), true);
  const StreamError refusal = Refuse(tenants, "small", 101);
  EXPECT_EQ(refusal.reason, BusyReason::kTooLarge);
  EXPECT_EQ(refusal.retry_after_ms, 0);
  EXPECT_THAT(refusal.message, HasSubstr("may need 101 tokens of work, and the quota of tenant "
                                         "small is at most 100 at once (burst_tokens)"));
  EXPECT_TRUE(tenants.held().empty()) << "what is refused costs nothing";
  EXPECT_EQ(Charge(tenants, "small", 100).tokens, 100);
}

TEST(Tenants, BoundRequestsInFlight) {
  Tenants tenants(MakePolicy(), true);
  const Grant first = Charge(tenants, "small", 1);
  Charge(tenants, "small", 1);
  EXPECT_THAT(Refuse(tenants, "small", 1).message,
              HasSubstr("tenant small has 2 requests in flight, its bound is 2"));
  tenants.End(first, 1, 0);
  Charge(tenants, "small", 1);
}

TEST(Tenants, RefuseARetryTooMany) {
  Tenants tenants(MakePolicy(), true);
  RequestTerms retry = Of("small");
  retry.attempt = 2;
  for (int i = 0; i < kRetriesMin; ++i) EXPECT_EQ(tenants.NoteAttempt(retry, 0), std::nullopt);
  const auto refusal = tenants.NoteAttempt(retry, 0);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->reason, BusyReason::kQuotaExceeded);
  EXPECT_EQ(refusal->retry_after_ms, 10'000);
  EXPECT_THAT(refusal->message, HasSubstr("more than 20 % of the requests of tenant small"));
  EXPECT_EQ(tenants.NoteAttempt(Of("small"), 0), std::nullopt) << "a first attempt may come";
  retry.tenant = "vip";
  EXPECT_EQ(tenants.NoteAttempt(retry, 0), std::nullopt) << "each tenant has its own budget";
}

TEST(Tenants, KeepNoQuotaWithoutTheEdgesLimit) {
  Tenants tenants(MakePolicy(), false);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(Charge(tenants, "small", 1'000).tokens, 0);
  RequestTerms retry = Of("small");
  retry.attempt = 9;
  for (int i = 0; i < 99; ++i) EXPECT_EQ(tenants.NoteAttempt(retry, 0), std::nullopt);
  EXPECT_EQ(tenants.held().at("small").requests, 9);
}

TEST(Tenants, KeepWhatWasUsedWhenThePolicyChanges) {
  Tenants tenants(MakePolicy(), true);
  const Grant grant = Charge(tenants, "small", 60);
  auto policy = MakePolicy();
  policy->tenants[1].requests_in_flight_max = 1;
  tenants.Configure(policy, 0);
  EXPECT_THAT(Refuse(tenants, "small", 1).message, HasSubstr("its bound is 1"));
  policy = MakePolicy();
  tenants.Configure(policy, 0);
  EXPECT_EQ(Refuse(tenants, "small", 41).retry_after_ms, 100);
  tenants.End(grant, 60, 0);
}

TEST(Tenants, CountARemovedTenantUntilItsLastRequestEnds) {
  Tenants tenants(MakePolicy(), true);
  const Grant grant = Charge(tenants, "small", 60);
  tenants.Configure(std::make_shared<TenantsPolicy>(), 0);
  EXPECT_EQ(Charge(tenants, "small", 1'000).tenant, "") << "it is nobody by that name any more";
  EXPECT_EQ(tenants.held().at("small"), (Tenants::Held{1, 60}));
  tenants.End(grant, 10, 0);
  EXPECT_FALSE(tenants.held().contains("small"));
}

TEST(Tenants, AdoptWithoutAskingTheQuota) {
  Tenants tenants(MakePolicy(), true);
  const Grant grant = tenants.Adopt("small", ServiceClass::kSheddable);
  EXPECT_EQ(Charge(tenants, "small", 100).tokens, 100);
  tenants.End(grant, 50, 0);
  EXPECT_EQ(Refuse(tenants, "small", 1).retry_after_ms, 100) << "it gives nothing back";
}

TEST(TenantsDeathTest, EndWhatWasNeverGranted) {
  Tenants tenants(MakePolicy(), true);
  EXPECT_DEATH(tenants.End({.tenant = "vip"}, 0, 0), "tenant 'vip' has nothing in flight");
}

}  // namespace
}  // namespace shoal::core
