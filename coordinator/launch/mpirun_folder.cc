#include "coordinator/launch/mpirun_folder.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "transport/base/error.h"

namespace shoal::launch {
namespace {

namespace fs = std::filesystem;

// "shoal-mpirun-4711-Ab3xYz": of process 4711.
constexpr const char* kNamePrefix = "shoal-mpirun-";

// What cannot be removed stays: it belongs to somebody else, or is in use.
void RemoveAll(const fs::path& folder) {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

void RemoveAbandoned(const fs::path& base) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(base, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kNamePrefix)) continue;
    const long owner = std::strtol(name.c_str() + std::strlen(kNamePrefix), nullptr, 10);
    if (owner > 0 && kill(static_cast<pid_t>(owner), 0) != 0 && errno == ESRCH) {
      RemoveAll(entry.path());
    }
  }
}

// Empty if `base` takes no folder.
std::string MakeFolderIn(const fs::path& base) {
  std::string path = (base / Str(kNamePrefix, getpid(), "-XXXXXX")).string();
  return mkdtemp(path.data()) == nullptr ? "" : path;
}

}  // namespace

MpirunFolder::MpirunFolder() {
  std::error_code error;
  const fs::path elsewhere = fs::temp_directory_path(error);
  for (const fs::path& base : {fs::path("/dev/shm"), elsewhere}) {
    if (base.empty()) continue;
    RemoveAbandoned(base);
    path_ = MakeFolderIn(base);
    if (!path_.empty()) return;
  }
  Throw(ErrorCode::kFailed, "mpirun needs a folder in /dev/shm or ", elsewhere.string(), ": ",
        std::strerror(errno));
}

MpirunFolder::~MpirunFolder() { RemoveAll(path_); }

}  // namespace shoal::launch
