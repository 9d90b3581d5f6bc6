#include "coordinator/launch/local_group.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/base/error.h"

namespace shoal::launch {
namespace {

// mpirun, like a shell, exits with this plus the number of the signal that ended a rank.
constexpr int kSignalBase = 128;
constexpr int kSignalsMax = 64;
constexpr std::string_view kMpirun = "mpirun";
constexpr size_t kLastWordsBytesMax = 300;

bool IsRule(std::string_view line) {
  return line.size() >= 60 && line.find_first_not_of('-') == std::string_view::npos;
}

// The number after `before`, or -1.
int NumberAfter(std::string_view text, std::string_view before) {
  const size_t at = text.find(before);
  if (at == std::string_view::npos) return -1;
  int number = -1;
  const std::string rest(text.substr(at + before.size()));
  return std::sscanf(rest.c_str(), "%d", &number) == 1 ? number : -1;
}

void WriteLines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  // Nobody can be told that stderr is gone.
  static_cast<void>(!write(STDERR_FILENO, text.data(), text.size()));
}

}  // namespace

std::string GroupEnd::Text() const {
  if (clean()) return "the ranks ended although nobody dismissed them";
  // mpirun names the rank that a signal ended, unless it was ended itself; and it exits with the
  // status of a rank.
  std::string who = starter;
  if (rank >= 0) {
    who = Str("rank ", rank);
  } else if (signal == 0 && starter == kMpirun) {
    who = "a rank";
  }
  if (signal != 0) return Str(who, " was ended by signal ", signal, " (", strsignal(signal), ")");
  return Str(who, " exited with status ", status);
}

std::vector<std::string> MpirunReport::TakeLine(std::string_view line) {
  if (!in_notice_) {
    if (!IsRule(line)) return {std::string(line)};
    in_notice_ = true;
    notice_ = {std::string(line)};
    return {};
  }
  notice_.emplace_back(line);
  return IsRule(line) ? TakeRest() : std::vector<std::string>();
}

std::vector<std::string> MpirunReport::TakeRest() {
  ReadNotice();
  in_notice_ = false;
  std::string text;
  for (const std::string& line : notice_) text += line + " ";
  for (const char* known : {"Primary job  terminated normally", "mpirun noticed that process rank",
                            "mpirun detected that one or more processes exited"}) {
    if (text.find(known) != std::string::npos) notice_.clear();
  }
  return std::exchange(notice_, {});
}

void MpirunReport::ReadNotice() {
  std::string text;
  for (const std::string& line : notice_) text += line + " ";
  if (rank_ >= 0) return;
  if (text.find("mpirun noticed that process rank") != std::string::npos) {
    rank_ = NumberAfter(text, "process rank");
    signal_ = std::max(0, NumberAfter(text, "exited on signal"));
    return;
  }
  // "Process name: [[29082,1],1]": the job and the rank in it.
  const size_t name = text.find("Process name: [[");
  if (name != std::string::npos) rank_ = NumberAfter(text.substr(name), "],");
}

std::vector<std::string> MpirunCommand(const LocalGroupOptions& options, bool as_root,
                                       const std::string& folder) {
  // All ranks are on this machine: mpirun needs no port that others could reach, and looking for
  // other networks than shared memory would take MPI_Init another quarter of a second. Where ranks
  // run is the kernel's choice; a thread team that is bound to one core would be slower, not safer.
  std::vector<std::string> command = {
      "mpirun", "--bind-to", "none", "--oversubscribe", "--mca", "oob_tcp_if_include", "lo",
      "--mca",  "pml",       "ob1"};
  if (!folder.empty()) {
    command.insert(command.end(), {"--mca", "orte_tmpdir_base", folder, "--mca",
                                   "btl_vader_backing_directory", folder});
  }
  if (as_root) command.emplace_back("--allow-run-as-root");
  command.emplace_back("-np");
  command.push_back(std::to_string(options.rank_count));
  command.push_back(options.worker);
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  return command;
}

LocalGroup::LocalGroup(const LocalGroupOptions& options)
    : LocalGroup(std::make_unique<MpirunFolder>(), options) {}

LocalGroup::LocalGroup(std::unique_ptr<MpirunFolder> folder, const LocalGroupOptions& options)
    : LocalGroup(MpirunCommand(options, geteuid() == 0, folder->path()), std::string(kMpirun),
                 options.on_stdout) {
  folder_ = std::move(folder);
}

LocalGroup::LocalGroup(std::vector<std::string> command, std::string starter,
                       std::function<void(std::string_view line)> on_stdout)
    : starter_(std::move(starter)),
      child_({.command = std::move(command),
              .on_stdout = std::move(on_stdout),
              .on_stderr = [this](std::string_view line) { TakeLine(line); }}) {}

void LocalGroup::TakeLine(std::string_view line) {
  const std::lock_guard lock(mutex_);
  const std::vector<std::string> lines = report_.TakeLine(line);
  WriteLines(lines);
  for (const std::string& shown : lines) {
    if (shown.find_first_not_of(" \t\r") == std::string::npos) continue;
    last_words_ = shown.substr(0, kLastWordsBytesMax);
  }
}

std::optional<GroupEnd> LocalGroup::TryWait() { return WaitFor(0); }

std::optional<GroupEnd> LocalGroup::WaitFor(int64_t milliseconds) {
  if (!child_.WaitFor(milliseconds)) return std::nullopt;
  // Ends what mpirun may have left, and reads its last words.
  return MakeEnd(child_.Stop(0));
}

GroupEnd LocalGroup::Stop(int64_t grace_ms) { return MakeEnd(child_.Stop(grace_ms)); }

GroupEnd LocalGroup::MakeEnd(const ChildEnd& end) {
  const std::lock_guard lock(mutex_);
  WriteLines(report_.TakeRest());
  GroupEnd group{.status = end.status,
                 .signal = end.signal,
                 .rank = report_.rank(),
                 .starter = starter_,
                 .last_words = last_words_};
  if (report_.signal() != 0) group.signal = report_.signal();
  if (group.signal == 0 && end.status > kSignalBase && end.status <= kSignalBase + kSignalsMax) {
    group.signal = end.status - kSignalBase;
  }
  return group;
}

}  // namespace shoal::launch
