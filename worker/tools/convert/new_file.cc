#include "worker/tools/convert/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return path.substr(0, std::max<size_t>(slash, 1));
}

[[noreturn]] void ThrowTaken(const std::string& path) {
  Throw(ErrorCode::kInvalidArgument, path,
        ": the file exists: choose another name, or remove it first");
}

}  // namespace

NewFile::NewFile(const std::string& path, int64_t bytes) : path_(path), bytes_(bytes) {
  if (Exists(path_)) ThrowTaken(path_);
  fd_ = open(FolderOf(path_).c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
  if (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    temporary_ = Str(path_, ".partial.", getpid());
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (fd_ < 0) {
    Throw(ErrorCode::kInvalidArgument, path_, ": ", std::strerror(errno),
          ": choose a folder that exists and that you may write to");
  }
  // File systems that cannot reserve say EOPNOTSUPP; there a full disk shows while writing.
  if (bytes > 0 && fallocate(fd_, 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    const int error = errno;
    Discard();
    Fail("cannot be reserved", error);
  }
}

NewFile::~NewFile() { Discard(); }

void NewFile::Discard() {
  if (fd_ < 0) return;
  close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void NewFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot be written", errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

int NewFile::Link() const {
  // Unlike rename, link never replaces a file that came in between.
  const int done = temporary_.empty() ? linkat(AT_FDCWD, Str("/proc/self/fd/", fd_).c_str(),
                                               AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW)
                                      : link(temporary_.c_str(), path_.c_str());
  if (done == 0) return 0;
  // A file system without links.
  const bool has_no_links = !temporary_.empty() && (errno == EPERM || errno == EOPNOTSUPP);
  if (has_no_links && std::rename(temporary_.c_str(), path_.c_str()) == 0) return 0;
  return errno;
}

void NewFile::Commit() {
  if (fsync(fd_) != 0) Fail("cannot be written", errno);
  const int error = Link();
  if (error == EEXIST) ThrowTaken(path_);
  if (error != 0) Fail("cannot be named", error);
  Discard();
}

void NewFile::Fail(const char* what, int error) const {
  Throw(ErrorCode::kFailed, path_, ": ", bytes_, " bytes ", what, ": ", std::strerror(error),
        error == ENOSPC || error == EDQUOT || error == EFBIG
            ? ": free space, or choose a folder on another disk"
            : "");
}

}  // namespace shoal::rank
