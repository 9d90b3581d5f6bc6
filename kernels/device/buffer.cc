#include "kernels/device/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "transport/base/error.h"

namespace shoal::device {

Buffer::Buffer(int64_t bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Throw(ErrorCode::kInvalidArgument, "cannot map ", bytes,
          " bytes of memory: ", std::strerror(errno), "; lower kv_cache_tokens or use more ranks");
  }
  // A kernel without huge pages refuses the advice; the memory works all the same.
  madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace shoal::device
