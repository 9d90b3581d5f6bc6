// What is said of groups, their losses, and streams that outlived them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/gateway/json/status_json.h"
#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/group.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RegionStatus MakeRegion() {
  RegionStatus region;
  region.requests_total = 9;
  region.streams_live = 4;
  region.requests_waiting = 3;
  region.group_losses_total = 3;
  region.group_losses = {2, 1};  // kRankDied, kSilent.
  region.streams_resumed = {5, 0, 0, 0, 0, 0, 0, 1};
  region.group_restarts_total = 2;
  region.stalls = {0, 1, 2};
  region.stalls.back() = 1;
  region.stall_seconds_sum = 61.5;
  ServedModel model{"little", "00ff"};
  region.models = {model};
  GroupStatus group{.group = 1, .epoch = (uint64_t{1} << 52) + 1, .name = "group \"1\""};
  group.tensor_parallel = 2;
  group.pipeline_parallel = 1;
  group.state = GroupState::kReady;
  group.ranks = {{.rank = 0,
                  .pid = 42,
                  .host = "node1",
                  .isa = "avx2",
                  .threads = 8,
                  .state = "joined",
                  .device = "cpu"}};
  group.streams = 4;
  GroupStatus lost{.group = 2};
  lost.state = GroupState::kLost;
  lost.managed = true;
  lost.last_loss = "no such file";
  lost.next_start_ms = 1'500;
  region.groups = {group, lost};
  return region;
}

TEST(StatusJson, HasThePromisedNames) {
  const auto json = nlohmann::json::parse(StatusJson(MakeRegion()));
  EXPECT_EQ(json.at("model"), "little");
  EXPECT_EQ(json.at("numerics_id"), "00ff");
  EXPECT_TRUE(json.at("region").is_string());
  EXPECT_EQ(json.at("requests_total"), 9);
  EXPECT_EQ(json.at("streams"), 4);
  EXPECT_EQ(json.at("waiting"), 3);
  EXPECT_EQ(json.at("streams_resumed_total"), 6);
  EXPECT_EQ(json.at("groups_lost_total"), 3);
  const auto& group = json.at("groups").at(0);
  EXPECT_EQ(group.at("group"), 1);
  EXPECT_EQ(group.at("epoch").get<uint64_t>(), (uint64_t{1} << 52) + 1);
  EXPECT_EQ(group.at("state"), "ready");
  EXPECT_EQ(group.at("managed"), false);
  EXPECT_EQ(group.at("tensor_parallel"), 2);
  EXPECT_EQ(group.at("pipeline_parallel"), 1);
  EXPECT_EQ(group.at("streams"), 4);
  EXPECT_EQ(group.at("last_loss"), "");
  EXPECT_TRUE(group.at("next_start_ms").is_null());
  EXPECT_EQ(group.at("ranks").dump(),
            R"([{"device":"cpu","host":"node1","isa":"avx2","pid":42,"rank":0,"state":"joined",)"
            R"("threads":8}])");
  const auto& lost = json.at("groups").at(1);
  EXPECT_EQ(lost.at("state"), "lost");
  EXPECT_EQ(lost.at("managed"), true);
  EXPECT_EQ(lost.at("last_loss"), "no such file");
  EXPECT_EQ(lost.at("next_start_ms"), 1'500);
}

TEST(StatusJson, IsThereWithoutModelsAndGroups) {
  const auto json = nlohmann::json::parse(StatusJson({}));
  EXPECT_EQ(json.at("model"), "");
  EXPECT_TRUE(json.at("groups").empty());
}

TEST(Cluster, IsTheStatusOverHttp) {
  GatewayFixture fixture;
  fixture.generation.region = MakeRegion();
  const auto answer = fixture.Get("/v1/cluster");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, StatusJson(MakeRegion()));
}

TEST(Metrics, CountLossesAndWhatOutlivedThemByCause) {
  GatewayFixture fixture;
  fixture.generation.region = MakeRegion();
  const std::string body = fixture.Get("/metrics").body;
  EXPECT_THAT(body, HasSubstr("\nshoal_groups_lost_total{cause=\"rank_died\"} 2\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_groups_lost_total{cause=\"silent\"} 1\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_groups_lost_total{cause=\"never_ready\"} 0\n"));
  EXPECT_THAT(body, Not(HasSubstr("shoal_groups_lost_total{cause=\"drained\"}")));
  EXPECT_THAT(body, HasSubstr("\nshoal_streams_resumed_total{cause=\"rank_died\"} 5\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_streams_resumed_total{cause=\"drained\"} 1\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_group_restarts_total 2\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_stream_stall_seconds_bucket{le=\"0.1\"} 0\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_stream_stall_seconds_bucket{le=\"0.35\"} 3\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_stream_stall_seconds_bucket{le=\"30\"} 3\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_stream_stall_seconds_bucket{le=\"+Inf\"} 4\n"
                              "shoal_stream_stall_seconds_sum 61.5\n"
                              "shoal_stream_stall_seconds_count 4\n"));
}

}  // namespace
}  // namespace shoal::gateway
