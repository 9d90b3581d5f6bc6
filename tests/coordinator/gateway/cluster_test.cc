// What is said of groups, their losses, and streams that outlived them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/gateway/json/status_json.h"
#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"
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

TEST(Records, AreFoundOverHttp) {
  GatewayFixture fixture;
  fixture.generation.records = {{.number = 7,
                                 .kind = RecordKind::kRejected,
                                 .request = "r",
                                 .reason = BusyReason::kQueueFull,
                                 .figures = {{"retry_after_ms", 0.5, "what it was told"}}}};
  const auto answer = fixture.Get("/v1/records?request=r&since_ms=1500&after=6");
  EXPECT_EQ(answer.status, 200);
  const RecordQuery& query = fixture.generation.queries.at(0);
  EXPECT_EQ(query.request, "r");
  EXPECT_EQ(query.since_ms, 1'500);
  EXPECT_EQ(query.after, 6U);
  const auto json = nlohmann::json::parse(answer.body);
  EXPECT_EQ(json.at("oldest_unix_ms"), 1'000);
  const auto& record = json.at("records").at(0);
  EXPECT_EQ(record.at("kind"), "rejected");
  EXPECT_EQ(record.at("reason"), "queue_full");
  EXPECT_TRUE(record.at("group").is_null());
  EXPECT_TRUE(record.at("stream").is_null());
  EXPECT_EQ(record.at("figures").at(0).at("value"), 0.5);
}

TEST(Records, AreATenantsOwnUnlessAnOperatorAsks) {
  HttpGatewayOptions options;
  options.find_caller = [](std::string_view key) -> std::optional<rpc::Caller> {
    if (key == "token") return rpc::Caller{.owner = "operator", .is_operator = true};
    if (key == "d") return rpc::Caller{.owner = "key d"};
    return rpc::Caller{.tenant = "vip", .owner = "tenant vip"};
  };
  GatewayFixture fixture(options);
  for (const char* key : {"token", "d", "v"}) {
    EXPECT_EQ(fixture.Get("/v1/records", Str("Authorization: Bearer ", key, "\r\n")).status, 200);
  }
  const auto& queries = fixture.generation.queries;
  ASSERT_EQ(queries.size(), 3U);
  EXPECT_EQ(queries[0].tenant, std::nullopt) << "of everybody";
  EXPECT_EQ(queries[1].tenant, "") << "of the default tenant, and of no named one";
  EXPECT_EQ(queries[2].tenant, "vip");
}

TEST(Records, RefuseAQueryThatIsNone) {
  GatewayFixture fixture;
  for (const auto& [query, param] :
       std::map<std::string, std::string>{{"since_ms=-1", "since_ms"},
                                          {"since_ms=ten", "since_ms"},
                                          {"after=", "after"},
                                          {"request=", "request"},
                                          {"request=" + std::string(257, 'r'), "request"},
                                          {"colour=red", "colour"},
                                          {"request=a&request=b", ""},
                                          {"request", ""}}) {
    const auto answer = fixture.Get("/v1/records?" + query);
    EXPECT_EQ(answer.status, 400) << query;
    const auto error = nlohmann::json::parse(answer.body).at("error");
    EXPECT_EQ(error.at("param").is_null() ? "" : error.at("param").get<std::string>(), param)
        << query;
  }
  EXPECT_TRUE(fixture.generation.queries.empty());
}

TEST(Metrics, CountRejectionsByReason) {
  GatewayFixture fixture;
  fixture.generation.region.requests_rejected.at(static_cast<size_t>(BusyReason::kKvFull)) = 3;
  const std::string body = fixture.Get("/metrics").body;
  EXPECT_THAT(body, HasSubstr("\nshoal_requests_rejected_total{reason=\"kv_full\"} 3\n"));
  EXPECT_THAT(body, HasSubstr("\nshoal_requests_rejected_total{reason=\"queue_full\"} 0\n"));
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
