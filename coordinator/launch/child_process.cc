// fork and exec with everything in place that keeps descendants from being left behind. They are
// found by their session, because mpirun gives each rank a process group of its own.

#include "coordinator/launch/child_process.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::launch {
namespace {

constexpr int64_t kLookAgainMs = 10;
// From SIGKILL to the end of a process; only a process in an uninterruptible wait takes longer.
constexpr int64_t kKillMs = 2'000;
// A line without an end is handed on in pieces of this size.
constexpr size_t kLineBytesMax = 64 * 1024;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

Pipe MakePipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    Throw(ErrorCode::kFailed, "pipe: ", std::strerror(errno));
  }
  return {ends[0], ends[1]};
}

void WriteToStderr(std::string_view line) {
  std::string text(line);
  text += '\n';
  // Nobody can be told that stderr is gone.
  static_cast<void>(!write(STDERR_FILENO, text.data(), text.size()));
}

// Cuts a stream of bytes into lines.
class LineSplitter {
 public:
  explicit LineSplitter(std::function<void(std::string_view)> take)
      : take_(take ? std::move(take) : WriteToStderr) {}

  void Add(std::string_view bytes) {
    rest_ += bytes;
    size_t begin = 0;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
      take_(std::string_view(rest_).substr(begin, end - begin));
      begin = end + 1;
    }
    rest_.erase(0, begin);
    if (rest_.size() >= kLineBytesMax) Finish();
  }
  void Finish() {
    if (!rest_.empty()) take_(rest_);
    rest_.clear();
  }

 private:
  std::function<void(std::string_view)> take_;
  std::string rest_;
};

// Until both ends are closed by all who could write to them, or, once `stop` can be read, until
// they are empty: a process that has left the session may hold them open for ever.
void ReadLines(int out, int err, int stop, LineSplitter out_lines, LineSplitter err_lines) {
  std::array<pollfd, 3> files = {{{out, POLLIN, 0}, {err, POLLIN, 0}, {stop, POLLIN, 0}}};
  std::array<LineSplitter*, 2> splitters = {&out_lines, &err_lines};
  std::array<char, 4096> buffer{};
  bool stopping = false;
  while (files[0].fd >= 0 || files[1].fd >= 0) {
    const int events = poll(files.data(), files.size(), stopping ? 0 : -1);
    if (events < 0 && errno == EINTR) continue;
    if (events <= 0) break;
    if (files[2].revents != 0) {
      stopping = true;
      files[2].fd = -1;  // poll ignores it from here on.
    }
    for (size_t i = 0; i < splitters.size(); ++i) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      const ssize_t count = read(files[i].fd, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count > 0) {
        splitters[i]->Add({buffer.data(), static_cast<size_t>(count)});
        continue;
      }
      close(files[i].fd);
      files[i].fd = -1;
    }
  }
  for (size_t i = 0; i < splitters.size(); ++i) {
    splitters[i]->Finish();
    if (files[i].fd >= 0) close(files[i].fd);
  }
}

// Between fork and exec only calls that are safe after a fork of a threaded process.
[[noreturn]] void BecomeChild(pid_t parent, int out, int err, int error_pipe, char* const* argv) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // It died before the line above.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGCHLD, SIGHUP}) {
    std::signal(signal, SIG_DFL);
  }
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  execvp(argv[0], argv);
  const int reason = errno;
  static_cast<void>(!write(error_pipe, &reason, sizeof(reason)));
  _exit(127);
}

struct SessionMember {
  pid_t pid = 0;
  bool ended = false;  // A zombie: nobody has asked for its status yet.
};

// From /proc/PID/stat: the words after the name in parentheses, which may itself hold spaces and
// parentheses. Nothing if it is of another session, or gone.
std::optional<SessionMember> ReadMember(const std::filesystem::path& process, pid_t session) {
  std::ifstream file(process / "stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  char state = 0;
  pid_t parent = 0;
  pid_t group = 0;
  pid_t its_session = 0;
  const int words = std::sscanf(text.c_str() + name_end + 1, " %c %d %d %d", &state, &parent,
                                &group, &its_session);
  if (words != 4 || its_session != session) return std::nullopt;
  return SessionMember{static_cast<pid_t>(std::stol(process.filename())), state == 'Z'};
}

std::vector<SessionMember> MembersOf(pid_t session) {
  std::vector<SessionMember> members;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (const auto member = ReadMember(entry.path(), session)) members.push_back(*member);
  }
  return members;
}

}  // namespace

ChildProcess::ChildProcess(ChildOptions options) : options_(std::move(options)) {
  SHOAL_CHECK(!options_.command.empty());
  std::vector<char*> argv;
  for (std::string& argument : options_.command) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const Pipe out = MakePipe();
  const Pipe err = MakePipe();
  const Pipe error = MakePipe();
  const pid_t parent = getpid();
  // What the child leaves behind becomes this process's own child, and can be waited for.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  pid_ = fork();
  if (pid_ == 0) BecomeChild(parent, out.write_end, err.write_end, error.write_end, argv.data());
  const int fork_reason = errno;
  for (const int end : {out.write_end, err.write_end, error.write_end}) close(end);
  int reason = 0;
  const bool failed = pid_ < 0 || read(error.read_end, &reason, sizeof(reason)) > 0;
  close(error.read_end);
  if (failed) {
    close(out.read_end);
    close(err.read_end);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    Throw(ErrorCode::kFailed, options_.command[0],
          " cannot be started: ", std::strerror(pid_ < 0 ? fork_reason : reason));
  }
  stop_reading_ = eventfd(0, EFD_CLOEXEC);
  SHOAL_CHECK(stop_reading_ >= 0, std::strerror(errno));
  reader_ = std::thread(ReadLines, out.read_end, err.read_end, stop_reading_,
                        LineSplitter(options_.on_stdout), LineSplitter(options_.on_stderr));
}

ChildProcess::~ChildProcess() {
  if (reader_.joinable()) Stop(0);
  close(stop_reading_);
}

std::optional<ChildEnd> ChildProcess::TryWait() {
  if (end_) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  end_ = ChildEnd{.status = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                  .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
  return end_;
}

std::optional<ChildEnd> ChildProcess::WaitFor(int64_t milliseconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (!TryWait() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kLookAgainMs));
  }
  return TryWait();
}

void ChildProcess::Signal(int signal) const {
  if (!end_) kill(pid_, signal);
}

ChildEnd ChildProcess::Stop(int64_t grace_ms) {
  if (!TryWait()) {
    Signal(SIGTERM);
    WaitFor(grace_ms);
  }
  // Also when the child has ended: what it started may not have.
  EndSession();
  EndReader();
  return end_.value_or(ChildEnd{.signal = SIGKILL});
}

ChildEnd ChildProcess::Abandon() {
  KillSession();
  EndReader();
  return end_.value_or(ChildEnd{.signal = SIGKILL});
}

void ChildProcess::EndReader() {
  const uint64_t one = 1;
  static_cast<void>(!write(stop_reading_, &one, sizeof(one)));
  if (reader_.joinable()) reader_.join();
}

bool ChildProcess::KillSession() {
  if (session_gone_) return true;
  const std::vector<SessionMember> members = MembersOf(pid_);
  for (const SessionMember& member : members) {
    if (!member.ended) kill(member.pid, SIGKILL);
    // Orphans are this process's children now, and stay in the process table until it asks.
    if (member.pid != pid_) waitpid(member.pid, nullptr, WNOHANG);
  }
  TryWait();
  session_gone_ = members.empty();
  return session_gone_;
}

void ChildProcess::EndSession() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kKillMs);
  while (!KillSession()) {
    if (std::chrono::steady_clock::now() > deadline) {
      LOG(ERROR) << options_.command[0] << ", process " << pid_ << ": what it started does not end";
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kLookAgainMs));
  }
}

}  // namespace shoal::launch
