#include "coordinator/gateway/resume/cursor_key.h"

// The file is written under a name of its own and then linked to the name that counts: however the
// process ends, that name has a whole key or nothing, and of two processes one wins.

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <system_error>

#include "coordinator/gateway/resume/cursor.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

constexpr mode_t kOthersMask = 077;

[[noreturn]] void FailAt(const std::string& path, const char* what, int error) {
  Throw(ErrorCode::kInvalidArgument, path, ": ", what, ": ",
        std::generic_category().message(error));
}

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags, mode_t mode = 0)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }

 private:
  const int fd_;
};

// None if there is no such file.
std::optional<std::string> ReadKey(const std::string& path) {
  const OpenFile file(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  if (file.fd() < 0 && errno == ENOENT) return std::nullopt;
  if (file.fd() < 0) FailAt(path, "cannot be opened", errno);
  struct stat about {};
  if (fstat(file.fd(), &about) != 0) FailAt(path, "cannot be looked at", errno);
  if (!S_ISREG(about.st_mode)) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected a regular file");
  }
  if (about.st_uid != geteuid()) {
    Throw(ErrorCode::kInvalidArgument, path, ": is user ", about.st_uid, "'s, who could forge ",
          "cursors: expected a file of user ", geteuid(), "; remove it, and a new one is made");
  }
  if ((about.st_mode & kOthersMask) != 0) {
    Throw(ErrorCode::kInvalidArgument, path, ": others than its owner may use it, so that they ",
          "could forge cursors: expected mode 600; remove it, and a new one is made");
  }
  std::string key(kCursorKeyBytes + 1, '\0');
  const ssize_t size = read(file.fd(), key.data(), key.size());
  if (size < 0) FailAt(path, "cannot be read", errno);
  if (size != static_cast<ssize_t>(kCursorKeyBytes)) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected ", kCursorKeyBytes, " bytes, found ",
          about.st_size, "; remove it, and a new one is made");
  }
  key.resize(kCursorKeyBytes);
  return key;
}

void WriteKey(const std::string& folder, const std::string& path) {
  const std::string own = Str(path, ".", getpid());
  unlink(own.c_str());  // Of a process of that id that was killed.
  {
    const OpenFile file(own, O_WRONLY | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
    if (file.fd() < 0) FailAt(own, "cannot be created", errno);
    const std::string key = RandomCursorKey();
    const ssize_t size = write(file.fd(), key.data(), key.size());
    if (size != static_cast<ssize_t>(key.size()) || fsync(file.fd()) != 0) {
      const int error = size < 0 || size == static_cast<ssize_t>(key.size()) ? errno : ENOSPC;
      unlink(own.c_str());
      FailAt(own, "cannot be written", error);
    }
  }
  const bool linked = link(own.c_str(), path.c_str()) == 0;
  const int error = errno;
  unlink(own.c_str());
  if (!linked && error != EEXIST) FailAt(path, "cannot be created", error);
  const OpenFile opened(folder, O_RDONLY | O_DIRECTORY);
  if (opened.fd() < 0 || fsync(opened.fd()) != 0) FailAt(folder, "cannot be written", errno);
}

}  // namespace

std::string RandomCursorKey() {
  std::string key(kCursorKeyBytes, '\0');
  SHOAL_CHECK(getrandom(key.data(), key.size(), 0) == static_cast<ssize_t>(key.size()));
  return key;
}

std::string LoadCursorKey(const std::string& folder) {
  if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    FailAt(folder, "cannot be created", errno);
  }
  const std::string path = folder + "/cursor.key";
  if (auto key = ReadKey(path)) return *std::move(key);
  WriteKey(folder, path);
  auto key = ReadKey(path);
  if (!key) Throw(ErrorCode::kInvalidArgument, path, ": was removed while it was made");
  return *std::move(key);
}

}  // namespace shoal::gateway
