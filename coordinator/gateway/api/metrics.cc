#include "coordinator/gateway/api/metrics.h"

// Names promised to outsiders carry no labels, so that they are there before the first group is.

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <span>

#include "transport/base/check.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

// The two lines that come before a family's samples.
std::string Preamble(std::string_view name, std::string_view type, std::string_view help) {
  return Str("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

// The shortest decimal that reads back as the same number.
std::string FormatDouble(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, std::end(digits), value).ptr};
}

template <typename Value>
void WriteSample(std::string& text, const std::string& name, std::string_view type,
                 std::string_view help, Value value) {
  text += Preamble(name, type, help) + Str(name, " ", value, "\n");
}

// A histogram of these buckets, which are not cumulative; the last one is of what is above all
// bounds.
template <typename Counts>
void WriteBuckets(std::string& text, const std::string& name, std::string_view help,
                  std::span<const double> bounds, const Counts& counts, double sum) {
  SHOAL_CHECK(counts.size() == bounds.size() + 1, name);
  text += Preamble(name, "histogram", help);
  int64_t below = 0;
  for (size_t i = 0; i < bounds.size(); ++i) {
    below += static_cast<int64_t>(counts[i]);
    text += Str(name, "_bucket{le=\"", bounds[i], "\"} ", below, "\n");
  }
  below += static_cast<int64_t>(counts.back());
  text += Str(name, "_bucket{le=\"+Inf\"} ", below, "\n", name, "_sum ", FormatDouble(sum), "\n",
              name, "_count ", below, "\n");
}

// `value` as a label may hold it: UTF-8, whatever a rank calls its model, with \\, " and the end of
// a line escaped.
std::string LabelValue(std::string_view value) {
  std::string text;
  for (const char c : ReplaceIllFormed(value)) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

// What the schedulers of all groups have done, as the region adds it up.
struct CounterSample {
  const char* name;
  const char* help;
  int64_t SchedulerStats::*value;
};

constexpr CounterSample kCounterSamples[] = {
    {"shoal_steps_total", "Steps of the groups.", &SchedulerStats::steps_total},
    {"shoal_preemptions_total", "Sequences that gave up their blocks for others.",
     &SchedulerStats::preemptions_total},
    {"shoal_prefix_cache_queries_total", "Sequences that looked for their prefix.",
     &SchedulerStats::prefix_cache_queries_total},
    {"shoal_prefix_cache_query_tokens_total", "Their tokens.",
     &SchedulerStats::prefix_cache_query_tokens_total},
    {"shoal_prefix_cache_hit_tokens_total", "Those found, and not computed again.",
     &SchedulerStats::prefix_cache_hit_tokens_total},
    {"shoal_speculation_drafted_tokens_total", "Tokens guessed ahead.",
     &SchedulerStats::drafted_tokens_total},
    {"shoal_speculation_accepted_tokens_total", "Those that were right.",
     &SchedulerStats::accepted_tokens_total},
    {"shoal_prompt_rows_total", "Rows of prompts computed, and not found in the cache.",
     &SchedulerStats::prompt_rows_total},
    {"shoal_group_tokens_total", "Tokens that groups chose.",
     &SchedulerStats::generated_tokens_total},
    {"shoal_busy_microseconds_total", "With at least one step under way.",
     &SchedulerStats::busy_us_total},
};
static_assert(std::size(kCounterSamples) == std::size(kSchedulerCounters));

// What is so at the moment, summed over the groups that are there.
struct GaugeSample {
  const char* name;
  const char* type;
  const char* help;
  int64_t (*value)(const SchedulerStats&);
};

constexpr GaugeSample kGaugeSamples[] = {
    {"shoal_sequences_running", "gauge", "Sequences in the groups' batches.",
     [](const SchedulerStats& stats) { return int64_t{stats.sequences_running}; }},
    {"shoal_kv_blocks_used", "gauge", "KV cache blocks in use.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_used; }},
    {"shoal_kv_blocks_kept", "gauge", "KV cache blocks not in use that hold a prefix.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_kept; }},
    {"shoal_kv_blocks", "gauge", "KV cache blocks there are.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_total; }},
    {"shoal_prompt_rows_left", "gauge", "Rows of prompts that groups have still to compute.",
     [](const SchedulerStats& stats) { return stats.prompt_rows_left; }},
    {"shoal_tokens_left", "gauge", "Tokens that groups may still have to generate.",
     [](const SchedulerStats& stats) { return stats.tokens_left; }},
    // Its name is promised to outsiders and must not go; but what ends in _total is a counter, so
    // it is none of the gauges. New readers take shoal_kv_blocks.
    {"shoal_kv_blocks_total", "untyped", "The same as shoal_kv_blocks, under its old name.",
     [](const SchedulerStats& stats) { return stats.kv_blocks_total; }},
};

void WriteRegion(const RegionStatus& region, std::string& text) {
  for (const CounterSample& sample : kCounterSamples) {
    WriteSample(text, sample.name, "counter", sample.help, region.totals.*sample.value);
  }
  for (const GaugeSample& sample : kGaugeSamples) {
    int64_t sum = 0;
    for (const GroupStatus& group : region.groups) sum += sample.value(group.stats);
    WriteSample(text, sample.name, sample.type, sample.help, sum);
  }
  int64_t waiting = region.requests_waiting;
  int64_t ready = 0;
  uint64_t epoch = 0;
  for (const GroupStatus& group : region.groups) {
    waiting += group.stats.requests_waiting;
    ready += group.state == GroupState::kReady ? 1 : 0;
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
  WriteSample(text, "shoal_requests_coalesced_total", "counter",
              "Sequences taken that got the answer of an equal one in flight.",
              region.requests_coalesced_total);
  WriteSample(text, "shoal_streams_live", "gauge", "Sequences not yet ended.", region.streams_live);
}

void WriteGuard(const RegionStatus& region, std::string& text) {
  text += Preamble("shoal_group_ejected", "gauge",
                   "1 for a group that is left out of routing, or tried with one request.");
  for (const GroupStatus& group : region.groups) {
    text += Str("shoal_group_ejected{group=\"", group.group, "\"} ", group.ejected ? 1 : 0, "\n");
  }
  text += Preamble("shoal_breaker_open", "gauge", "1 for a breaker that is open, or half open.");
  for (const BreakerStatus& breaker : region.breakers) {
    text += Str("shoal_breaker_open{rule=\"", LabelValue(breaker.rule), "\"} ",
                breaker.open ? 1 : 0, "\n");
  }
}

// A family with a sample for each cause, all from the start.
void WriteCauses(std::string& text, std::string_view name, std::string_view help, int causes,
                 const std::array<int64_t, kLossCauses>& counts) {
  text += Preamble(name, "counter", help);
  for (int cause = 0; cause < causes; ++cause) {
    text += Str(name, "{cause=\"", ToString(static_cast<LossCause>(cause)), "\"} ",
                counts.at(static_cast<size_t>(cause)), "\n");
  }
}

void WriteContinuity(const RegionStatus& region, std::string& text) {
  static_assert(static_cast<int>(LossCause::kDrained) == kLossCauses - 1);
  WriteCauses(text, "shoal_groups_lost_total", "Groups lost, by cause.", kLossCauses - 1,
              region.group_losses);
  WriteCauses(text, "shoal_streams_resumed_total",
              "Streams that went on in another group, by why the last one did not end them.",
              kLossCauses, region.streams_resumed);
  WriteSample(text, "shoal_streams_adopted_total", "counter",
              "Streams that went on after another coordinator's end.",
              region.streams_adopted_total);
  WriteSample(text, "shoal_group_restarts_total", "counter",
              "Managed groups that were started again.", region.group_restarts_total);
  WriteBuckets(text, "shoal_stream_stall_seconds",
               "How long streams that went on in another group brought nothing.", kStallSeconds,
               region.stalls, region.stall_seconds_sum);
}

void WriteWaits(const WaitErrorStatus& errors, std::string& text) {
  WriteBuckets(text, "shoal_predicted_wait_error_ratio",
               "How far predicted waits for the first token were off, as a share of the wait.",
               kWaitErrorRatios, errors.counts, errors.sum);
  text += Preamble("shoal_predicted_wait_error_median", "gauge", "Of the last 512.");
  text += Str("shoal_predicted_wait_error_median ", FormatDouble(errors.median), "\n");
}

void WriteRejections(const RegionStatus& region, std::string& text) {
  constexpr std::string_view kName = "shoal_requests_rejected_total";
  text += Preamble(kName, "counter", "Requests refused before any work, by reason.");
  for (int reason = 0; reason < kBusyReasons; ++reason) {
    text += Str(kName, "{reason=\"", ToString(static_cast<BusyReason>(reason)), "\"} ",
                region.requests_rejected.at(static_cast<size_t>(reason)), "\n");
  }
}

void WriteModels(const std::vector<ServedModel>& models, std::string& text) {
  const auto write = [&](std::string_view name, std::string_view help,
                         int64_t ServedModel::*value) {
    text += Preamble(name, "gauge", help);
    for (const ServedModel& model : models) {
      text += Str(name, "{model=\"", LabelValue(model.name), "\",numerics_id=\"",
                  LabelValue(model.numerics_id), "\"} ", model.*value, "\n");
    }
  };
  write("shoal_model_groups_ready", "Groups of a version of a model that answer.",
        &ServedModel::groups_ready);
  write("shoal_model_requests_waiting", "Sequences that wait for a group of it.",
        &ServedModel::requests_waiting);
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(bucket - bounds_.begin())];
  sum_ += value;
}

void Histogram::Write(const std::string& name, std::string_view help, std::string& text) const {
  WriteBuckets(text, name, help, bounds_, counts_, sum_);
}

GatewayMetrics::GatewayMetrics()
    : first_token_seconds({0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}),
      between_tokens_seconds({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}),
      request_seconds({0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300}) {}

void GatewayMetrics::CountRequest(const std::string& route, int status) {
  ++requests_[{route, status}];
}

std::string GatewayMetrics::Write(const RegionStatus& region, size_t connection_count) const {
  std::string text;
  WriteRegion(region, text);
  WriteContinuity(region, text);
  WriteWaits(region.wait_errors, text);
  WriteGuard(region, text);
  WriteRejections(region, text);
  WriteModels(region.models, text);
  text +=
      Preamble("shoal_http_requests_total", "counter", "Requests answered, by path and status.");
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
  first_token_seconds.Write("shoal_time_to_first_token_seconds",
                            "From a generation's request to its first token.", text);
  between_tokens_seconds.Write("shoal_time_between_tokens_seconds",
                               "From one token of a generation to its next.", text);
  request_seconds.Write("shoal_generation_seconds",
                        "From a generation's request to the end of its answer.", text);
  return text;
}

}  // namespace shoal::gateway
