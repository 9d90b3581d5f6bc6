// Whose an API key is.

#include "coordinator/gateway/keys/key_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<core::TenantsPolicy> Two() {
  auto policy = std::make_shared<core::TenantsPolicy>();
  policy->tenants = {{.name = "vip", .keys = {"v1", "v2"}},
                     {.name = "bulk", .keys = {"b"}, .service_class = ServiceClass::kSheddable}};
  policy->tenants[0].service_class = ServiceClass::kCriticalPlus;
  policy->defaults.service_class = ServiceClass::kSheddablePlus;
  return policy;
}

TEST(KeyRing, KnowsTenantsByTheirKeysAndTheDefaultOneByTheKeysFile) {
  const KeyRing ring({"d", "e"}, Two());
  EXPECT_TRUE(ring.asks());
  EXPECT_EQ(ring.Find("v1"), (rpc::Caller{"vip", "tenant vip", ServiceClass::kCriticalPlus}));
  EXPECT_EQ(ring.Find("v1"), ring.Find("v2"));
  EXPECT_EQ(ring.Find("b"), (rpc::Caller{"bulk", "tenant bulk", ServiceClass::kSheddable}));
  EXPECT_EQ(ring.Find("d")->tenant, "");
  EXPECT_EQ(ring.Find("d")->service_class, ServiceClass::kSheddablePlus);
  EXPECT_NE(ring.Find("d")->owner, ring.Find("e")->owner) << "one could go on with the other's";
  for (const char* unknown : {"", "v", "v11", "V1", "vip", "tenant vip"}) {
    EXPECT_FALSE(ring.Find(unknown)) << unknown;
  }
}

TEST(KeyRing, TakesEverybodyForTheDefaultTenantWhereThereIsNoKey) {
  const KeyRing ring({}, nullptr);
  EXPECT_FALSE(ring.asks());
  EXPECT_EQ(ring.Find(""), rpc::Caller());
  EXPECT_EQ(ring.Find("anything"), rpc::Caller());
}

TEST(KeyRing, ChangesWithTheFileAndNeverFallsOpen) {
  KeyRing ring({}, Two());
  auto next = Two();
  next->tenants.erase(next->tenants.begin());
  next->tenants.push_back({.name = "new", .keys = {"v1"}});
  ring.Configure(ring.preparation()(next));
  EXPECT_EQ(ring.Find("v1")->tenant, "new");
  EXPECT_FALSE(ring.Find("v2"));
  EXPECT_EQ(ring.Find("b")->tenant, "bulk");
  ring.Configure(ring.preparation()(nullptr));
  EXPECT_TRUE(ring.asks());
  EXPECT_FALSE(ring.Find("b"));
  EXPECT_FALSE(ring.Find(""));
}

TEST(KeyRing, RefusesAKeyOfTwoTenantsAndStaysAsItWas) {
  KeyRing ring({"d"}, Two());
  auto bad = std::make_shared<core::TenantsPolicy>();
  bad->tenants = {{.name = "a", .keys = {"secret-1"}}, {.name = "c", .keys = {"x", "secret-1"}}};
  try {
    ring.Configure(ring.preparation()(bad));
    FAIL() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("tenants a and c"));
    EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("secret-1")));
  }
  EXPECT_EQ(ring.Find("v1")->tenant, "vip");
  EXPECT_TRUE(ring.Find("d"));
}

// A key that moves from the keys file to a tenant need not be taken out of the file first.
TEST(KeyRing, GivesAKeyOfBothToTheNamedTenant) {
  const KeyRing ring({"v1"}, Two());
  EXPECT_EQ(ring.Find("v1")->tenant, "vip");
}

// The group token, shown as a key.
TEST(KeyRing, KnowsAnOperatorWhetherOrNotKeysAreAskedFor) {
  for (const bool asks : {true, false}) {
    const KeyRing ring({}, asks ? Two() : nullptr, "token");
    EXPECT_EQ(ring.asks(), asks) << "the token alone asks nobody for a key";
    const std::optional<rpc::Caller> caller = ring.Find("token");
    ASSERT_TRUE(caller);
    EXPECT_TRUE(caller->is_operator);
    EXPECT_EQ(caller->seen_tenant(), std::nullopt);
    EXPECT_EQ(ring.Find("toke").has_value(), !asks);
  }
}

TEST(KeyRing, LetsEachSeeItsOwn) {
  const KeyRing ring({"d"}, Two(), "token");
  EXPECT_EQ(ring.Find("v1")->seen_tenant(), "vip");
  EXPECT_EQ(ring.Find("d")->seen_tenant(), "") << "the default tenant is one like others";
  EXPECT_EQ(KeyRing({}, nullptr).Find("")->seen_tenant(), std::nullopt) << "it has no keys";
}

TEST(KeyRing, RefusesTheGroupTokenAsATenantsKey) {
  const auto fail = [](std::vector<std::string> default_keys, const std::string& token) {
    try {
      const KeyRing ring(std::move(default_keys), Two(), token);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  EXPECT_THAT(fail({}, "b"), HasSubstr("tenant bulk has the group token"));
  EXPECT_THAT(fail({"d"}, "d"), HasSubstr("--api-keys-file has the group token"));
}

TEST(KeyRing, HoldsTenThousandTenants) {
  auto policy = std::make_shared<core::TenantsPolicy>();
  for (int i = 0; i < 10'000; ++i) {
    policy->tenants.push_back({.name = Str("t", i), .keys = {Str("key-", i)}});
  }
  const KeyRing ring({}, policy);
  for (int i = 0; i < 10'000; i += 99) EXPECT_EQ(ring.Find(Str("key-", i))->tenant, Str("t", i));
  EXPECT_FALSE(ring.Find("key-10000"));
}

}  // namespace
}  // namespace shoal::gateway
