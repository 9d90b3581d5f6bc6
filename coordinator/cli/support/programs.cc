#include "coordinator/cli/support/programs.h"

#include "coordinator/launch/child_process.h"
#include "transport/base/error.h"

namespace shoal::cli {

ProgramOutput RunProgram(const std::vector<std::string>& command, int64_t timeout_ms) {
  ProgramOutput output;
  launch::ChildProcess child(
      {.command = command,
       .on_stdout = [&](std::string_view line) { output.lines.emplace_back(line); },
       .on_stderr = [&](std::string_view line) { output.errors.emplace_back(line); }});
  const bool ended = child.WaitFor(timeout_ms).has_value();
  const launch::ChildEnd end = child.Stop(1'000);
  if (!ended) {
    Throw(ErrorCode::kDeadlineExceeded, command[0], " was not done after ", timeout_ms, " ms");
  }
  output.status = end.signal != 0 ? 128 + end.signal : end.status;
  return output;
}

std::vector<std::string> InstructionSetsHere() {
  constexpr int64_t kTimeoutMs = 10'000;
  constexpr std::string_view kRuns = ": runs here";
  const ProgramOutput kernels = RunProgram({ProgramPath("shoal-worker"), "kernels"}, kTimeoutMs);
  std::vector<std::string> names;
  for (const std::string& line : kernels.lines) {
    if (line.ends_with(kRuns)) names.push_back(line.substr(0, line.size() - kRuns.size()));
  }
  if (kernels.status != 0 || names.empty()) {
    Throw(ErrorCode::kFailed, "`shoal-worker kernels` names no instruction set that runs here (",
          "status ", kernels.status, kernels.errors.empty() ? ")" : "): " + kernels.errors.back());
  }
  return names;
}

}  // namespace shoal::cli
