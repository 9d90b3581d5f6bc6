#pragma once

// A file's bytes in memory, read only.

#include <cstddef>
#include <span>
#include <string>

namespace shoal::model {

// The kernel reads pages when they are touched; nothing is copied. A file that is cut shorter while
// it is mapped ends the process (SIGBUS), as with every memory-mapped reader.
class MappedFile {
 public:
  // Errors: kInvalidArgument if the path cannot be opened, is no regular file, or is empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// Gives back the memory of all pages that hold any of these bytes of a mapped file. They stay
// readable: what is read again is mapped again, from the page cache or the disk.
void ReleasePages(std::span<const std::byte> bytes);

// A whole small file. Errors: kInvalidArgument if it cannot be read or is larger than `bytes_max`.
std::string ReadTextFile(const std::string& path, size_t bytes_max);

}  // namespace shoal::model
