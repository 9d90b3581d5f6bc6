// The tenants file: what it says, and how each mistake in it is told.

#include "coordinator/shell/tenants_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TenantsFileTest : public ::testing::Test {
 protected:
  TenantsFileTest() : folder_(std::filesystem::temp_directory_path() / Str("tenants_", getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~TenantsFileTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }

  auto Read(const std::string& text) const { return ReadTenantsFile(Write("t.yaml", text)); }

  // What is wrong with it.
  std::string Fail(const std::string& text) const {
    try {
      Read(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "nothing";
  }

  const std::filesystem::path folder_;
};

TEST_F(TenantsFileTest, SaysWhoMayDoWhat) {
  Write("b.keys", "# of b\nkey-b1\n\n  key-b2  \n");
  const auto policy = Read(
      "tenants:\n"
      "  - {name: a, keys: [key-a], class: critical_plus, weight: 2.5, tokens_per_second: 100,\n"
      "     burst_tokens: 500, requests_in_flight_max: 7, floor_share: 0.1}\n"
      "  - {name: b, keys_file: b.keys}\n"
      "classes:\n"
      "  sheddable: {floor_share: 0.05}\n"
      "defaults: {class: sheddable_plus, weight: 0.5, floor_share: 0.2}\n"
      "retry_share_max: 0.3\n"
      "shape_tokens_per_second: 4000\n");
  ASSERT_EQ(policy->tenants.size(), 2u);
  EXPECT_EQ(policy->tenants[0], (core::TenantPolicy{.name = "a",
                                                    .keys = {"key-a"},
                                                    .service_class = ServiceClass::kCriticalPlus,
                                                    .weight = 2.5,
                                                    .tokens_per_second = 100,
                                                    .burst_tokens = 500,
                                                    .requests_in_flight_max = 7,
                                                    .floor_share = 0.1}));
  EXPECT_THAT(policy->tenants[1].keys, ElementsAre("key-b1", "key-b2"));
  EXPECT_EQ(policy->tenants[1].service_class, ServiceClass::kSheddablePlus) << "of the defaults";
  EXPECT_EQ(policy->tenants[1].weight, 0.5);
  EXPECT_EQ(policy->tenants[1].floor_share, 0) << "each has its own";
  EXPECT_EQ(policy->defaults.name, "");
  EXPECT_EQ(policy->defaults.floor_share, 0.2);
  EXPECT_EQ(policy->classes[3].floor_share, 0.05);
  EXPECT_EQ(policy->classes[0].floor_share, 0);
  EXPECT_EQ(policy->retry_share_max, 0.3);
  EXPECT_EQ(policy->shape_tokens_per_second, 4'000);
}

TEST_F(TenantsFileTest, MayBeEmpty) { EXPECT_EQ(*Read("# nobody\n"), core::TenantsPolicy{}); }

TEST_F(TenantsFileTest, IsAsTheExampleShows) {
  const auto policy = ReadTenantsFile(SHOAL_SOURCE_DIR "/configs/tenants.yaml");
  ASSERT_EQ(policy->tenants.size(), 2u);
  EXPECT_EQ(policy->tenants[0].service_class, ServiceClass::kCriticalPlus);
  EXPECT_EQ(policy->defaults, core::TenantPolicy{}) << "it shows what is without it";
}

TEST_F(TenantsFileTest, IsRefusedByLineAndKey) {
  const std::string a = "tenants:\n- name: a\n  keys: [k1]\n";
  const std::pair<std::string, std::string> cases[] = {
      {"tenants: [", "line 1"},
      {"- a\n", "line 1: expected lines of 'key: value', found a list"},
      {"tenant: []\n", "line 1: tenant: no such key here"},
      {"tenants: []\n", "line 1: tenants: expected at least one, found none"},
      {"tenants:\n", "tenants: expected at least one, found none"},
      {a + "- &b {name: b, keys: [k2]}\n", "line 4: expected each value written out where it"},
      {a + "  weight: 1e400\n", "line 4: weight: expected a number from 0.001 to 1000"},
      {a + "  weight: nan\n", "line 4: weight: expected a number from 0.001 to 1000"},
      {a + "  weight: -1\n", "line 4: weight: expected a number from 0.001 to 1000, found '-1'"},
      {a + "  requests_in_flight_max: -1\n", "line 4: requests_in_flight_max: expected an int"},
      {a + "  keys_file: /dev/zero\n", "line 4: keys_file: "},
      {"tenants:\n- name: a\n  keys_file: /dev/zero\n",
       "line 3: keys_file: /dev/zero: expected at"},
      {"tenants:\n- name: \xff\n  keys: [k]\n", "line 2: expected UTF-8"},
      {"tenants:\n- name: \xC3\xA9\n  keys: [k]\n", "line 2: name: expected 1 to 64 visible"},
      {"tenants:\n\t- name: a\n", "line 2: "},
      {"tenants: 3\n", "line 1: tenants: expected a list of sections, found '3'"},
      {"tenants:\n- a\n", "line 2: tenants: expected a section in the list, found 'a'"},
      {"tenants:\n- keys: [k]\n", "line 2: name: expected 1 to 64 visible ASCII characters"},
      {"tenants:\n- name: a b\n  keys: [k]\n", "line 2: name: expected 1 to 64 visible"},
      {"tenants:\n- name: a\n", "line 2: name: expected either keys (a list) or keys_file"},
      {a + "  keys_file: f\n", "line 4: keys_file: expected either keys (a list) or keys_file"},
      {"tenants:\n- name: a\n  keys: []\n", "line 3: keys: expected at least one API key"},
      {"tenants:\n- name: a\n  keys: [k, s p]\n", "line 3: keys: expected API keys of 1 to 512"},
      {"tenants:\n- name: a\n  keys_file: absent\n", "line 3: keys_file: "},
      {"tenants:\n- name: a\n  keys: [k1, k1]\n", "line 3: keys: has the same API key twice"},
      {a + "- name: a\n  keys: [k2]\n", "line 4: name: the tenant of line 2 has that name"},
      {a + "- name: b\n  keys: [k1]\n", "line 5: keys: has an API key that tenant a has too"},
      {a + "  class: best\n", "line 4: class: expected one of critical_plus, critical, "},
      {a + "  weight: 0\n", "line 4: weight: expected a number from 0.001 to 1000, found '0'"},
      {a + "  weight: heavy\n", "line 4: weight: expected a number from 0.001 to 1000"},
      {a + "  tokens_per_second: -1\n", "line 4: tokens_per_second: expected a number from 0 to"},
      {a + "  burst_tokens: 5\n", "line 4: burst_tokens: expected a tokens_per_second beside it"},
      {a + "  requests_in_flight_max: 1.5\n",
       "line 4: requests_in_flight_max: expected an integer"},
      {a + "  floor_share: 1\n", "line 4: floor_share: expected a number from 0 to 0.95"},
      {a + "  quota: 1\n", "line 4: quota: no such key here"},
      {a + "  name: b\n", "line 4: name is there a second time"},
      {"defaults: {name: x}\n", "line 1: name: no such key here"},
      {"classes:\n  best: {floor_share: 0.1}\n", "line 2: best: no such key here"},
      {"classes:\n  critical: {share: 0.1}\n", "line 2: share: no such key here"},
      {"retry_share_max: 20\n", "line 1: retry_share_max: expected a number from 0 to 1"},
      {"shape_tokens_per_second: many\n", "line 1: shape_tokens_per_second: expected a number"},
      {a + "  floor_share: 0.6\nclasses:\n  sheddable: {floor_share: 0.5}\n",
       "line 2: tenants: the floor_share of all classes and tenants come to 1.1 together"},
  };
  for (const auto& [text, what] : cases) {
    const std::string message = Fail(text);
    EXPECT_THAT(message, HasSubstr(what)) << text;
    EXPECT_THAT(message, HasSubstr("t.yaml")) << text;
    EXPECT_THAT(message, Not(HasSubstr("k1"))) << "an API key stays a secret";
  }
  EXPECT_THROW(ReadTenantsFile((folder_ / "absent.yaml").string()), Error);
}

}  // namespace
}  // namespace shoal::gateway
