#include "coordinator/gateway/metrics.h"

// Names promised to outsiders carry no labels, so that they are there before the first group is.

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

template <typename Value>
void WriteSample(std::string& text, const std::string& name, std::string_view type,
                 std::string_view help, Value value) {
  text +=
      Str("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n", name, " ", value, "\n");
}

// What the schedulers of all groups say, added up.
struct SchedulerSample {
  const char* name;
  const char* type;
  const char* help;
  int64_t (*value)(const SchedulerStats&);
};

constexpr SchedulerSample kSchedulerSamples[] = {
    {"shoal_steps_total", "counter", "Steps of the groups that are there.",
     [](const SchedulerStats& stats) { return stats.steps_total; }},
    {"shoal_sequences_running", "gauge", "Sequences in the groups' batches.",
     [](const SchedulerStats& stats) { return int64_t{stats.sequences_running}; }},
    {"shoal_preemptions_total", "counter", "Sequences that gave up their blocks for others.",
     [](const SchedulerStats& stats) { return stats.preemptions_total; }},
    {"shoal_kv_blocks_used", "gauge", "KV cache blocks in use.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_used; }},
    {"shoal_kv_blocks_kept", "gauge", "KV cache blocks not in use that hold a prefix.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_kept; }},
    {"shoal_kv_blocks_total", "gauge", "KV cache blocks there are.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_total; }},
    {"shoal_prefix_cache_queries_total", "counter", "Sequences that looked for their prefix.",
     [](const SchedulerStats& stats) { return stats.prefix_cache_queries_total; }},
    {"shoal_prefix_cache_query_tokens_total", "counter", "Their tokens.",
     [](const SchedulerStats& stats) { return stats.prefix_cache_query_tokens_total; }},
    {"shoal_prefix_cache_hit_tokens_total", "counter", "Those found, and not computed again.",
     [](const SchedulerStats& stats) { return stats.prefix_cache_hit_tokens_total; }},
    {"shoal_speculation_drafted_tokens_total", "counter", "Tokens guessed ahead.",
     [](const SchedulerStats& stats) { return stats.drafted_tokens_total; }},
    {"shoal_speculation_accepted_tokens_total", "counter", "Those that were right.",
     [](const SchedulerStats& stats) { return stats.accepted_tokens_total; }},
};

void WriteRegion(const core::RegionStatus& region, std::string& text) {
  for (const SchedulerSample& sample : kSchedulerSamples) {
    int64_t sum = 0;
    for (const core::GroupStatus& group : region.groups) sum += sample.value(group.stats);
    WriteSample(text, sample.name, sample.type, sample.help, sum);
  }
  int64_t waiting = region.requests_waiting;
  int64_t ready = 0;
  uint64_t epoch = 0;
  for (const core::GroupStatus& group : region.groups) {
    waiting += group.stats.requests_waiting;
    ready += group.ready ? 1 : 0;
    epoch = std::max(epoch, group.epoch);
  }
  WriteSample(text, "shoal_requests_waiting", "gauge", "Sequences that wait for room.", waiting);
  WriteSample(text, "shoal_groups_ready", "gauge", "Groups that answer.", ready);
  WriteSample(text, "shoal_group_epoch", "gauge", "The newest group's epoch; 0 without one.",
              epoch);
  WriteSample(text, "shoal_group_losses_total", "counter", "Groups that lost a rank.",
              region.group_losses_total);
  WriteSample(text, "shoal_generations_total", "counter", "Sequences taken.",
              region.requests_total);
  WriteSample(text, "shoal_streams_live", "gauge", "Sequences not yet ended.", region.streams_live);
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(bucket - bounds_.begin())];
  sum_ += value;
}

void Histogram::Write(const std::string& name, std::string& text) const {
  text += Str("# TYPE ", name, " histogram\n");
  uint64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    text += Str(name, "_bucket{le=\"", bounds_[i], "\"} ", below, "\n");
  }
  below += counts_.back();
  text += Str(name, "_bucket{le=\"+Inf\"} ", below, "\n", name, "_sum ", sum_, "\n", name,
              "_count ", below, "\n");
}

GatewayMetrics::GatewayMetrics()
    : first_token_seconds({0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}),
      between_tokens_seconds({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}),
      request_seconds({0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300}) {}

void GatewayMetrics::CountRequest(const std::string& route, int status) {
  ++requests_[{route, status}];
}

std::string GatewayMetrics::Write(const core::RegionStatus& region, size_t connection_count) const {
  std::string text;
  WriteRegion(region, text);
  text += "# HELP shoal_http_requests_total Requests answered, by path and status.\n";
  text += "# TYPE shoal_http_requests_total counter\n";
  for (const auto& [key, count] : requests_) {
    text += Str("shoal_http_requests_total{path=\"", key.first, "\",code=\"", key.second, "\"} ",
                count, "\n");
  }
  WriteSample(text, "shoal_http_connections", "gauge", "Open connections.", connection_count);
  WriteSample(text, "shoal_prompt_tokens_total", "counter", "Tokens of prompts.", prompt_tokens);
  WriteSample(text, "shoal_generated_tokens_total", "counter", "Tokens generated.",
              generated_tokens);
  WriteSample(text, "shoal_requests_cancelled_total", "counter",
              "Generations whose client hung up.", cancelled);
  WriteSample(text, "shoal_ignored_fields_total", "counter",
              "Fields of requests that nobody here knows.", ignored_fields);
  first_token_seconds.Write("shoal_time_to_first_token_seconds", text);
  between_tokens_seconds.Write("shoal_time_between_tokens_seconds", text);
  request_seconds.Write("shoal_generation_seconds", text);
  return text;
}

}  // namespace shoal::gateway
