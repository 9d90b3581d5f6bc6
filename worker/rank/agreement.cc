// Outcomes travel over MPI, because they must also travel when the group's own communicator failed.

#include "worker/rank/agreement.h"

#include <algorithm>
#include <exception>
#include <sstream>

namespace shoal::rank {
namespace {

// One character of code, then the message; nothing for success.
std::string ToText(const std::optional<Failure>& failure) {
  if (!failure) return "";
  return static_cast<char>('A' + static_cast<int>(failure->code)) + failure->message;
}

std::optional<Failure> FromText(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return Failure{static_cast<ErrorCode>(text[0] - 'A'), text.substr(1)};
}

bool IsEcho(const Failure& failure) {
  return failure.code == ErrorCode::kPeerLost || failure.code == ErrorCode::kDeadlineExceeded;
}

}  // namespace

std::optional<Failure> TryTo(const std::function<void()>& work) {
  // Errors become values here, so that they can be compared with other ranks' before they are
  // thrown.
  try {
    work();
  } catch (const Error& error) {
    return Failure{error.code(), error.what()};
  } catch (const std::exception& error) {
    return Failure{ErrorCode::kFailed, error.what()};
  }
  return std::nullopt;
}

std::optional<Failure> ChooseFailure(const std::vector<std::optional<Failure>>& outcomes) {
  std::optional<Failure> chosen;
  for (const std::optional<Failure>& outcome : outcomes) {
    if (!outcome) continue;
    if (!chosen || (IsEcho(*chosen) && !IsEcho(*outcome))) chosen = outcome;
  }
  return chosen;
}

std::string FindDifference(const std::vector<std::string>& settings) {
  for (size_t rank = 1; rank < settings.size(); ++rank) {
    std::istringstream expected_lines(settings[0]);
    std::istringstream found_lines(settings[rank]);
    std::string expected;
    std::string found;
    while (std::getline(expected_lines, expected) && std::getline(found_lines, found)) {
      if (found == expected) continue;
      const size_t name_end = std::min(expected.find('='), found.size() - 1);
      return Str("--", expected.substr(0, name_end), " is ", expected.substr(name_end + 1),
                 " on rank 0 and ", found.substr(name_end + 1), " on rank ", rank,
                 ": give all ranks of a group the same");
    }
  }
  return "";
}

Agreement Agree(comm::MpiEnvironment& environment, std::optional<Failure> own, Deadline deadline) {
  std::vector<std::optional<Failure>> outcomes;
  const std::optional<Failure> alone = TryTo([&] {
    for (const std::string& text : environment.AllGather(ToText(own), deadline)) {
      outcomes.push_back(FromText(text));
    }
  });
  if (!alone) return {ChooseFailure(outcomes), true};
  return {own ? own : alone, false};
}

void RunOnAllRanks(comm::MpiEnvironment& environment, Deadline deadline,
                   const std::function<void()>& work) {
  const Agreement agreement = Agree(environment, TryTo(work), deadline);
  if (agreement.failure) Throw(agreement.failure->code, agreement.failure->message);
}

}  // namespace shoal::rank
