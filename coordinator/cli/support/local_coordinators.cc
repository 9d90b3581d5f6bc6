#include "coordinator/cli/support/local_coordinators.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "transport/base/check.h"

namespace shoal::cli {
namespace {

// Result: whether it is there, this user's own, and nobody else's to write into.
bool MakePrivateFolder(const std::string& path) {
  // One that is there already is looked at below.
  static_cast<void>(mkdir(path.c_str(), S_IRWXU));
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool WriteAll(int file, const std::string& text) {
  return write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

}  // namespace

std::string NotesFolder() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const bool has_runtime = runtime != nullptr && *runtime == '/' && access(runtime, W_OK) == 0;
  const std::string path = has_runtime ? Str(runtime, "/shoal") : Str("/tmp/shoal-run-", geteuid());
  return MakePrivateFolder(path) ? path : "";
}

CoordinatorNote::CoordinatorNote(const std::string& folder, const LocalCoordinator& where) {
  const auto warn = [&](const char* what) {
    LOG(WARNING) << what << ": `shoal status` and its like need --coordinator " << where.rpc;
  };
  if (folder.empty()) {
    warn("there is no folder for a note of where this coordinator is");
    return;
  }
  path_ = Str(folder, "/", getpid());
  // Under a name that nobody looks for until it is locked and whole.
  const std::string hidden = Str(folder, "/.", getpid());
  file_ = open(hidden.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  const bool is_there = file_ >= 0 && flock(file_, LOCK_EX | LOCK_NB) == 0 &&
                        ftruncate(file_, 0) == 0 &&
                        WriteAll(file_, where.rpc + "\n" + where.url + "\n") &&
                        rename(hidden.c_str(), path_.c_str()) == 0;
  if (!is_there) warn("no note of where this coordinator is can be written");
}

CoordinatorNote::~CoordinatorNote() {
  if (file_ < 0) return;
  unlink(path_.c_str());
  close(file_);
}

std::vector<LocalCoordinator> FindLocalCoordinators(const std::string& folder) {
  std::vector<LocalCoordinator> found;
  if (folder.empty()) return found;
  std::vector<std::string> paths;
  std::error_code error;  // A folder that cannot be read holds nothing.
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!entry.path().filename().string().starts_with('.')) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  for (const std::string& path : paths) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) continue;
    if (flock(file, LOCK_SH | LOCK_NB) == 0) {
      unlink(path.c_str());  // Nobody holds it: its coordinator is gone.
    } else {
      std::ifstream text(path);
      LocalCoordinator one;
      if (std::getline(text, one.rpc) && std::getline(text, one.url)) found.push_back(one);
    }
    close(file);
  }
  return found;
}

}  // namespace shoal::cli
