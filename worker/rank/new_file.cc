#include "worker/rank/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "transport/base/error.h"

namespace shoal::rank {
namespace {

bool Exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

[[noreturn]] void ThrowTaken(const std::string& path) {
  Throw(ErrorCode::kInvalidArgument, path,
        ": the file exists: choose another name, or remove it first");
}

}  // namespace

NewFile::NewFile(const std::string& path, int64_t bytes)
    : path_(path), temporary_(Str(path, ".partial.", getpid())), bytes_(bytes) {
  if (Exists(path_)) ThrowTaken(path_);
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    Throw(ErrorCode::kInvalidArgument, temporary_, ": ", std::strerror(errno),
          ": choose a folder that exists and that you may write to");
  }
  // File systems that cannot reserve say EOPNOTSUPP; there a full disk shows while writing.
  if (bytes > 0 && fallocate(fd_, 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    const int error = errno;
    close(fd_);
    unlink(temporary_.c_str());
    Fail("cannot be reserved", error);
  }
}

NewFile::~NewFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void NewFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot be written", errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void NewFile::Commit() {
  if (fsync(fd_) != 0) Fail("cannot be written", errno);
  // Unlike rename, link never replaces a file that came in between.
  if (link(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno == EEXIST) ThrowTaken(path_);
    if (errno != EPERM && errno != EOPNOTSUPP) Fail("cannot be named", errno);
    // A file system without links.
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) Fail("cannot be named", errno);
  } else {
    unlink(temporary_.c_str());
  }
  close(fd_);
  fd_ = -1;
}

void NewFile::Fail(const char* what, int error) const {
  Throw(ErrorCode::kFailed, path_, ": ", bytes_, " bytes ", what, ": ", std::strerror(error),
        error == ENOSPC || error == EDQUOT || error == EFBIG
            ? ": free space, or choose a folder on another disk"
            : "");
}

}  // namespace shoal::rank
