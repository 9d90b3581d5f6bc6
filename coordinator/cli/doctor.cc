// shoal doctor: what of this machine would keep the other verbs from working, and what would slow
// them down. Each check is one line; it starts with OK, WARN or FAIL.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <thread>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/gateway/text/model_text.h"
#include "coordinator/launch/local_group.h"
#include "transport/base/error.h"
#include "transport/base/host/memory.h"

namespace shoal::cli {
namespace {

constexpr int64_t kMegabyte = 1'000'000;
// Open MPI keeps a segment of some megabytes for each rank in /dev/shm. shoal's own shared memory
// has no file there.
constexpr int64_t kShmBytesWanted = 64 * kMegabyte;
constexpr int64_t kMemoryBytesWanted = 1'000 * kMegabyte;
constexpr int64_t kMpirunMs = 30'000;

enum class Grade : uint8_t { kOk, kWarn, kFail };

struct Finding {
  Grade grade = Grade::kOk;
  std::string text;
};

struct DoctorOptions {
  std::string model;
  int32_t port = 8000;
  int32_t rpc_port = 7400;
};

Finding CheckInstructionSets() {
  const std::vector<std::string> sets = InstructionSetsHere();
  std::string text = "instruction sets:";
  for (const std::string& set : sets) text += " " + set;
  if (sets.size() == 1) {
    return {Grade::kWarn, text + " only: correct, but many times slower than AVX2"};
  }
  return {Grade::kOk, text};
}

Finding CheckProcessor() {
  std::string model = "unknown processor";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
  return {Grade::kOk,
          Str("processor: ", model, ", ", std::thread::hardware_concurrency(), " cores usable")};
}

Finding CheckMemory() {
  const int64_t available = MemoryBytes(kMemoryAvailable);
  const std::string text = Str("memory: ", available / kMegabyte, " MB available of ",
                               MemoryBytes(kMemoryTotal) / kMegabyte, " MB");
  if (available < kMemoryBytesWanted) return {Grade::kWarn, text + ": enough for tiny models only"};
  return {Grade::kOk, text};
}

// The processor's rounding mode and its handling of subnormals change results.
Finding CheckFloatingPoint() {
  constexpr uint32_t kControlBits = 0xffc0;  // Flush to zero, rounding, masks, denormals are zero.
  constexpr uint32_t kDefault = 0x1f80;
  const uint32_t found = _mm_getcsr() & kControlBits;
  if (found == kDefault) return {Grade::kOk, "floating point: IEEE rounding, subnormals kept"};
  std::ostringstream text;
  text << "floating point: MXCSR is 0x" << std::hex << found << ", expected 0x" << kDefault
       << ": something loaded into this process changed it; results would differ";
  return {Grade::kFail, text.str()};
}

Finding CheckSharedMemory() {
  struct statvfs info {};
  if (statvfs("/dev/shm", &info) != 0) {
    return {Grade::kFail,
            Str("/dev/shm: ", std::strerror(errno), ": Open MPI needs a tmpfs there: mount one")};
  }
  const int64_t bytes = static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  const std::string text = Str("/dev/shm: ", bytes / kMegabyte, " MB free");
  if (bytes < kShmBytesWanted) {
    return {Grade::kWarn, text +
                              ": Open MPI needs some for each rank; groups of many may not start "
                              "(in a container, give it --shm-size 1g)"};
  }
  return {Grade::kOk, text};
}

Finding CheckMpirun() {
  const ProgramOutput version = RunProgram({"mpirun", "--version"}, kMpirunMs);
  const std::string name = version.lines.empty() ? "mpirun" : version.lines[0];
  std::vector<std::string> command = launch::MpirunCommand(
      {.rank_count = 2, .worker = "/bin/true", .arguments = {}, .on_stdout = {}}, geteuid() == 0,
      /*folder=*/"");
  const ProgramOutput ranks = RunProgram(command, kMpirunMs);
  if (ranks.status == 0) return {Grade::kOk, name + ": starts two ranks"};
  std::string text =
      Str(name, ": starting two ranks of /bin/true ended with status ", ranks.status, "; it said:");
  for (const std::string& line : ranks.errors) text += "\n       " + line;
  return {Grade::kFail, text};
}

Finding CheckPort(const std::string& what, int32_t port) {
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int reuse = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool is_free =
      bind(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int reason = errno;
  close(socket_fd);
  const std::string text = Str(what, " port ", port, ": ");
  if (is_free) return {Grade::kOk, text + "free"};
  return {Grade::kWarn, Str(text, std::strerror(reason), ": choose another one, or 0 for any")};
}

Finding CheckModel(const std::string& path) {
  const auto model = model::Model::Open(path);
  const std::string text =
      Str("model ", model->name(), ": ", model->weight_bytes() / kMegabyte, " MB of weights, ",
          model->config().layer_count, " layers, tensor parallel up to ",
          plan::LargestTensorParallel(model->leaves()));
  const int64_t available = MemoryBytes(kMemoryAvailable);
  if (model->weight_bytes() > available) {
    return {Grade::kFail, Str(text, "; only ", available / kMegabyte, " MB of memory available")};
  }
  if (model->tokenizer_source() == model::TokenizerSource::kNone) {
    return {Grade::kWarn, text + "; it brings no tokenizer: requests must carry token ids"};
  }
  const gateway::ModelText model_text(path);
  const gateway::TextService service = model_text.Service();
  if (!service.tokenizer_refusal.empty()) {
    return {Grade::kWarn, Str(text, "; its tokenizer cannot be used, so that requests must carry ",
                              "token ids: ", service.tokenizer_refusal)};
  }
  if (!service.chat_refusal.empty()) {
    return {Grade::kWarn, Str(text, "; its chat template cannot be used, so that only completions ",
                              "are served: ", service.chat_refusal)};
  }
  return {Grade::kOk, text};
}

// A check that throws counts as failed; the others go on.
Finding Try(const std::function<Finding()>& check) {
  try {
    return check();
  } catch (const Error& error) {
    return {Grade::kFail, error.what()};
  }
}

}  // namespace

int DoctorVerb(int argc, const char* const* argv) {
  DoctorOptions options;
  config::OptionTable table(
      {.program = "shoal doctor",
       .usage = "[MODEL] [options]",
       .summary = "Checks this machine: processor, memory, shared memory, mpirun, ports, and the "
                  "model if one is named. Prints a line for each, with OK, WARN or FAIL.",
       .epilog = "Exit status:\n"
                 "  0  nothing failed\n"
                 "  1  something did\n"});
  table.AddPositional("model", options.model, "A model to look at.").required = false;
  table.AddInt("port", "PORT", options.port, {1, 65535}, "HTTP port to look at.");
  table.AddInt("rpc-port", "PORT", options.rpc_port, {1, 65535}, "RPC port to look at.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;

  std::vector<std::function<Finding()>> checks = {
      CheckProcessor,
      CheckInstructionSets,
      CheckMemory,
      CheckFloatingPoint,
      CheckSharedMemory,
      CheckMpirun,
      [&] { return CheckPort("HTTP", options.port); },
      [&] { return CheckPort("RPC", options.rpc_port); }};
  if (!options.model.empty()) checks.push_back([&] { return CheckModel(options.model); });
  bool failed = false;
  for (const auto& check : checks) {
    constexpr std::array<const char*, 3> kWords = {"OK    ", "WARN  ", "FAIL  "};
    const Finding finding = Try(check);
    failed = failed || finding.grade == Grade::kFail;
    std::cout << kWords[static_cast<size_t>(finding.grade)] << finding.text << std::endl;
  }
  return failed ? 1 : 0;
}

}  // namespace shoal::cli
