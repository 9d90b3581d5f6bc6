#include "transport/link/shm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "transport/base/error.h"

// Shared memory as a memfd that peers open through /proc/<pid>/fd: unlike a file in /dev/shm it is
// not limited by that file system's size (64 MB in most containers) and ends with its last process.

namespace shoal::link {
namespace {

std::byte* Map(int64_t bytes, int flags, int fd) {
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, flags, fd, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    if (fd >= 0) close(fd);
    Throw(ErrorCode::kFailed, "shared memory: cannot map ", bytes, " bytes: ", strerror(error));
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedSegment SharedSegment::MakeAnonymous(int64_t bytes) {
  return {Map(bytes, MAP_SHARED | MAP_ANONYMOUS, -1), bytes, -1};
}

SharedSegment SharedSegment::MakeNamed(int64_t bytes) {
  const int fd = memfd_create("shoal-group", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, bytes) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    Throw(ErrorCode::kFailed, "shared memory: cannot create ", bytes, " bytes: ", strerror(error),
          ": raise this process's memory or descriptor limit");
  }
  return {Map(bytes, MAP_SHARED, fd), bytes, fd};
}

SharedSegment SharedSegment::Open(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    Throw(ErrorCode::kPeerLost, "shared memory ", path, ": cannot open: ", strerror(errno),
          ": its maker ended, or runs as another user or in another container");
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || status.st_uid != geteuid() || status.st_size != bytes) {
    close(fd);
    Throw(ErrorCode::kFailed, "shared memory ", path, ": expected ", bytes,
          " bytes of this user, found ", status.st_size, " bytes of user ", status.st_uid,
          ": start all ranks from the same build, by the same user");
  }
  std::byte* data = Map(bytes, MAP_SHARED, fd);
  close(fd);
  return {data, bytes, -1};
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      fd_(std::exchange(other.fd_, -1)) {}

SharedSegment::~SharedSegment() {
  Seal();
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

std::string SharedSegment::path() const {
  return fd_ < 0 ? std::string() : Str("/proc/", getpid(), "/fd/", fd_);
}

void SharedSegment::Seal() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

}  // namespace shoal::link
