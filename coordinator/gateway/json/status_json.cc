#include "coordinator/gateway/json/status_json.h"

#include <numeric>
#include <string_view>

#include "coordinator/gateway/json/json_writer.h"

namespace shoal::gateway {
namespace {

// Regions have no names yet.
constexpr std::string_view kRegion = "local";

void WriteRank(JsonWriter& json, const RankStatus& rank) {
  json.BeginObject();
  json.Key("rank").Int(rank.rank).Key("pid").Int(rank.pid).Key("host").String(rank.host);
  json.Key("isa").String(rank.isa).Key("threads").Int(rank.threads);
  json.Key("state").String(rank.state).Key("device").String(rank.device);
  json.EndObject();
}

void WriteGroup(JsonWriter& json, const GroupStatus& group) {
  json.BeginObject();
  json.Key("group").Int(static_cast<int64_t>(group.group));
  json.Key("epoch").Int(static_cast<int64_t>(group.epoch));
  json.Key("state").String(ToString(group.state)).Key("managed").Bool(group.managed);
  json.Key("name").String(group.name).Key("model").String(group.model_name);
  json.Key("numerics_id").String(group.numerics_id);
  json.Key("tensor_parallel").Int(group.tensor_parallel);
  json.Key("pipeline_parallel").Int(group.pipeline_parallel);
  json.Key("streams").Int(group.streams).Key("last_loss").String(group.last_loss);
  json.Key("restarts_total").Int(group.restarts_total).Key("next_start_ms");
  if (group.next_start_ms >= 0) {
    json.Int(group.next_start_ms);
  } else {
    json.Null();
  }
  json.Key("ranks").BeginArray();
  for (const RankStatus& rank : group.ranks) WriteRank(json, rank);
  json.EndArray().EndObject();
}

}  // namespace

std::string StatusJson(const RegionStatus& status) {
  const ServedModel own = status.models.empty() ? ServedModel() : status.models.front();
  JsonWriter json;
  json.BeginObject().Key("model").String(own.name).Key("numerics_id").String(own.numerics_id);
  json.Key("region").String(kRegion).Key("requests_total").Int(status.requests_total);
  json.Key("streams").Int(status.streams_live).Key("waiting").Int(status.requests_waiting);
  const auto& resumed = status.streams_resumed;
  json.Key("streams_resumed_total").Int(std::reduce(resumed.begin(), resumed.end()));
  json.Key("streams_adopted_total").Int(status.streams_adopted_total);
  json.Key("groups_lost_total").Int(status.group_losses_total);
  json.Key("group_restarts_total").Int(status.group_restarts_total);
  json.Key("predicted_wait_error_median").Float(static_cast<float>(status.wait_errors.median));
  json.Key("groups").BeginArray();
  for (const GroupStatus& group : status.groups) WriteGroup(json, group);
  json.EndArray().EndObject();
  return json.Take();
}

}  // namespace shoal::gateway
