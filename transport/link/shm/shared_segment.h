#pragma once

// Memory that several processes of one machine and user see.

#include <cstddef>
#include <cstdint>
#include <string>

namespace shoal::link {

// A mapping, zeroed when made. Nothing of it has a name in a file system: the kernel frees it with
// its last process, however that ends.
class SharedSegment {
 public:
  // Inherited by processes forked later. Errors: kFailed when the memory cannot be had.
  static SharedSegment MakeAnonymous(int64_t bytes);
  // Reachable for other processes of the same user by path(), until Seal().
  static SharedSegment MakeNamed(int64_t bytes);
  // Errors: kPeerLost if nothing is there any more, kFailed if it is not `bytes` large or belongs
  // to another user.
  static SharedSegment Open(const std::string& path, int64_t bytes);

  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&& other) = delete;
  ~SharedSegment();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Empty unless made by MakeNamed.
  std::string path() const;

  // Ends the time in which others can open it. Those who have stay.
  void Seal();

 private:
  SharedSegment(std::byte* data, int64_t bytes, int fd) : data_(data), bytes_(bytes), fd_(fd) {}

  std::byte* data_;
  int64_t bytes_;
  int fd_;  // -1: not reachable by path.
};

}  // namespace shoal::link
