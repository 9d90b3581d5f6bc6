#include "coordinator/cli/bench/load/latency.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "transport/base/check.h"

namespace shoal::cli {

const char* const kServeFormulas =
    R"(Times are the client's, in milliseconds; an event is a piece of the answer with something to
read in it. `due` is when the arrival process wants a request sent; in a closed loop, when it is.
  time_to_first_token    first event - due: it counts the wait for one of --connections-max
  time_per_output_token  (last event - first event) / (completion_tokens - 1), for a request with
                         two tokens or more
  inter_token            from each event of a request to its next one
  end_to_end             end of the answer - due
  p50, p90, p99          nearest rank: the smallest value that so many percent do not exceed
  duration_seconds       from the first `due` to the last end
  tokens_per_second      completion_tokens of all / duration
  full_tokens_per_second tokens made while as many requests as --concurrency were between their
                         first and last event / that time; a request's tokens are spread evenly
                         over its events, and an event's over the time since the one before
  goodput                requests that kept --slo-first-token-ms and --slo-per-token-ms / duration;
                         failed ones never do
Only complete answers enter the latencies.
)";

namespace {

using Json = nlohmann::ordered_json;

double Milliseconds(TimeNs ns) { return static_cast<double>(ns) / kMillisecondNs; }
double Seconds(TimeNs ns) { return static_cast<double>(ns) / kSecondNs; }

double PerToken(const RequestRecord& record) {
  return Milliseconds(record.events.back() - record.events.front()) /
         static_cast<double>(record.completion_tokens - 1);
}

bool Keeps(const RequestRecord& record, const Objective& objective) {
  if (!record.succeeded()) return false;
  const double first = Milliseconds(record.events.front() - record.due);
  if (objective.first_token_ms > 0 && first > objective.first_token_ms) return false;
  return objective.per_token_ms <= 0 || record.completion_tokens < 2 ||
         PerToken(record) <= objective.per_token_ms;
}

Json Distribution(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {{"mean", sum / static_cast<double>(values.size())},
          {"p50", Percentile(values, 50)},
          {"p90", Percentile(values, 90)},
          {"p99", Percentile(values, 99)},
          {"max", values.back()}};
}

// Tokens per second while at least `concurrency` requests stream; null if they never do. Events of
// requests that decode together come in bursts, so tokens are spread over the time before their
// event: otherwise which event of a burst comes first would decide whether its tokens count.
Json FullRate(std::span<const RequestRecord> records, int64_t concurrency) {
  struct Change {
    TimeNs at;
    int64_t streams;
    double rate;  // Tokens per nanosecond.
  };
  std::vector<Change> changes;
  for (const RequestRecord& record : records) {
    if (record.events.size() < 2) continue;
    const double tokens =
        static_cast<double>(record.completion_tokens) / static_cast<double>(record.events.size());
    TimeNs begin = record.events.front();
    changes.push_back({begin, 1, 0});
    for (size_t i = 1, same = 1; i < record.events.size(); ++i, ++same) {
      const TimeNs end = record.events[i];
      if (i + 1 < record.events.size() && record.events[i + 1] == end) continue;
      if (end > begin) {
        const double rate = tokens * static_cast<double>(same) / static_cast<double>(end - begin);
        changes.push_back({begin, 0, rate});
        changes.push_back({end, 0, -rate});
      }
      begin = end;
      same = 0;
    }
    changes.push_back({begin, -1, 0});
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.at < b.at; });
  int64_t streams = 0;
  double rate = 0;
  TimeNs last = 0;
  TimeNs full = 0;
  double tokens = 0;
  for (const Change& change : changes) {
    if (streams >= concurrency) {
      full += change.at - last;
      tokens += rate * static_cast<double>(change.at - last);
    }
    streams += change.streams;
    rate += change.rate;
    last = change.at;
  }
  return full > 0 ? Json(tokens / Seconds(full)) : Json(nullptr);
}

void WriteDistribution(std::ostream& out, const char* name, const Json& values) {
  out << "  " << std::left << std::setw(28) << name << std::right;
  if (values.is_null()) {
    out << "nothing to measure\n";
    return;
  }
  for (const auto& [key, value] : values.items()) {
    out << key << " " << std::setw(8) << value.get<double>() << "  ";
  }
  out << "\n";
}

}  // namespace

double Percentile(std::span<const double> sorted, double p) {
  SHOAL_CHECK(!sorted.empty() && p > 0 && p <= 100, sorted.size(), " values, percentile ", p);
  const double rank = std::ceil(p / 100 * static_cast<double>(sorted.size()));
  return sorted[std::clamp<size_t>(static_cast<size_t>(rank), 1, sorted.size()) - 1];
}

Json Summarize(std::span<const RequestRecord> records, const Objective& objective,
               int64_t concurrency) {
  std::vector<double> first, per_token, between, whole;
  std::map<std::string, int64_t> failures;
  TimeNs begin = INT64_MAX;
  TimeNs end = 0;
  int64_t tokens = 0;
  int64_t good = 0;
  for (const RequestRecord& record : records) {
    begin = std::min(begin, record.due);
    end = std::max(end, record.end);
    tokens += record.completion_tokens;
    if (Keeps(record, objective)) ++good;
    if (!record.succeeded()) {
      ++failures[record.failure.empty() ? "an answer without text" : record.failure];
      continue;
    }
    first.push_back(Milliseconds(record.events.front() - record.due));
    whole.push_back(Milliseconds(record.end - record.due));
    if (record.completion_tokens > 1) per_token.push_back(PerToken(record));
    for (size_t i = 1; i < record.events.size(); ++i) {
      between.push_back(Milliseconds(record.events[i] - record.events[i - 1]));
    }
  }
  const double duration = end > begin ? Seconds(end - begin) : 0;
  const auto rate = [&](auto count) {
    return duration > 0 ? Json(static_cast<double>(count) / duration) : Json(nullptr);
  };
  Json summary = {{"requests", records.size()}, {"succeeded", first.size()}};
  summary["failures"] = Json::object();
  for (const auto& [why, count] : failures) summary["failures"][why] = count;
  summary["duration_seconds"] = duration;
  summary["completion_tokens"] = tokens;
  summary["requests_per_second"] = rate(first.size());
  summary["tokens_per_second"] = rate(tokens);
  summary["full_tokens_per_second"] =
      concurrency > 0 ? FullRate(records, concurrency) : Json(nullptr);
  summary["time_to_first_token_ms"] = Distribution(std::move(first));
  summary["time_per_output_token_ms"] = Distribution(std::move(per_token));
  summary["inter_token_ms"] = Distribution(std::move(between));
  summary["end_to_end_ms"] = Distribution(std::move(whole));
  summary["slo"] = {{"first_token_ms", objective.first_token_ms},
                    {"per_token_ms", objective.per_token_ms}};
  summary["goodput_requests_per_second"] = rate(good);
  return summary;
}

std::string ToText(const Json& summary) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  const auto number = [&](const char* key) {
    return summary[key].is_null() ? std::string("not measured")
                                  : (std::ostringstream() << std::fixed << std::setprecision(2)
                                                          << summary[key].get<double>())
                                        .str();
  };
  out << summary["succeeded"] << " of " << summary["requests"] << " requests answered in "
      << number("duration_seconds") << " s\n";
  for (const auto& [why, count] : summary["failures"].items()) {
    out << "  failed: " << count << " x " << why << "\n";
  }
  out << "  requests/s " << number("requests_per_second") << ", tokens/s "
      << number("tokens_per_second") << ", at full concurrency " << number("full_tokens_per_second")
      << "\n";
  out << "milliseconds\n";
  WriteDistribution(out, "time to first token", summary["time_to_first_token_ms"]);
  WriteDistribution(out, "time per output token", summary["time_per_output_token_ms"]);
  WriteDistribution(out, "between events", summary["inter_token_ms"]);
  WriteDistribution(out, "end to end", summary["end_to_end_ms"]);
  out << "goodput: " << number("goodput_requests_per_second") << " requests/s\n";
  return out.str();
}

}  // namespace shoal::cli
