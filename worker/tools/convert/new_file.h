#pragma once

// A file that appears under its name whole or not at all.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace shoal::rank {

// Written without a name in its folder, so that nothing is left wherever the program is killed; on
// file systems that cannot do that, under a temporary name, which the destructor removes if Commit
// was not reached. Errors: kInvalidArgument if the name is taken or its folder cannot be written
// to; kFailed, saying how much space is needed, if the disk is full or fails.
class NewFile {
 public:
  // Reserves `bytes` where the file system can, so that a full disk shows at once.
  NewFile(const std::string& path, int64_t bytes);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void Write(std::span<const std::byte> bytes);
  // Flushes to the disk and gives the file its name.
  void Commit();

 private:
  void Discard();
  // Gives the file its name. Result: 0, or errno.
  int Link() const;
  [[noreturn]] void Fail(const char* what, int error) const;

  const std::string path_;
  std::string temporary_;  // Empty: it has no name.
  const int64_t bytes_;
  int fd_ = -1;
};

}  // namespace shoal::rank
