#include "coordinator/cli/bench/load/arrivals.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include "transport/base/error.h"

namespace shoal::cli {

std::vector<PlannedRequest> PoissonArrivals(int64_t count, double requests_per_second,
                                            const PlannedRequest& shape, uint64_t seed) {
  // Not std::exponential_distribution, which every library computes in its own way.
  std::mt19937_64 random(seed);
  std::vector<PlannedRequest> arrivals;
  double seconds = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double uniform = (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53;
    seconds -= std::log(uniform) / requests_per_second;
    PlannedRequest& request = arrivals.emplace_back(shape);
    request.due = static_cast<TimeNs>(seconds * static_cast<double>(kSecondNs));
  }
  return arrivals;
}

std::vector<PlannedRequest> ParseTrace(std::string_view text, const std::string& name) {
  std::istringstream lines{std::string(text)};
  std::vector<PlannedRequest> requests;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::istringstream words(line);
    double seconds = 0;
    PlannedRequest request;
    std::string rest;
    if (!(words >> seconds >> request.prompt_tokens >> request.output_tokens) || words >> rest ||
        !(seconds >= 0 && seconds < 1e9) || request.prompt_tokens < 1 ||
        request.output_tokens < 1) {
      Throw(ErrorCode::kInvalidArgument, name, ":", number,
            ": expected 'SECONDS PROMPT_TOKENS OUTPUT_TOKENS', found '", line, "'");
    }
    request.due = static_cast<TimeNs>(seconds * static_cast<double>(kSecondNs));
    if (!requests.empty() && request.due < requests.back().due) {
      Throw(ErrorCode::kInvalidArgument, name, ":", number, ": the request at ", seconds,
            " s comes after a later one: sort the trace by time");
    }
    requests.push_back(request);
  }
  if (requests.empty()) Throw(ErrorCode::kInvalidArgument, name, ": expected requests, found none");
  return requests;
}

std::vector<PlannedRequest> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) Throw(ErrorCode::kInvalidArgument, path, ": cannot be read");
  return ParseTrace(std::string(std::istreambuf_iterator<char>(file), {}), path);
}

}  // namespace shoal::cli
