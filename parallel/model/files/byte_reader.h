#pragma once

// Reads little-endian values one after the other from bytes that may end anywhere.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "parallel/model/files/refuse.h"

namespace shoal::model {

// Errors of all reads: kInvalidArgument when fewer bytes are left than `what` needs. x86-64 and
// AArch64, the machines we build for, are little-endian: values are copied as they lie.
class ByteReader {
 public:
  // Borrows both arguments.
  ByteReader(std::span<const std::byte> bytes, const std::string& where)
      : bytes_(bytes), where_(where) {}

  size_t offset() const { return offset_; }
  size_t bytes_left() const { return bytes_.size() - offset_; }

  template <typename T>
  T Read(std::string_view what) {
    Need(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  // A u64 length, then as many bytes. The view lives as long as the bytes.
  std::string_view ReadString(std::string_view what) {
    const auto length = Read<uint64_t>(what);
    Need(length, what);
    const auto* begin = reinterpret_cast<const char*>(bytes_.data() + offset_);
    offset_ += length;
    return {begin, static_cast<size_t>(length)};
  }

  // Fails unless `count` items of at least `item_bytes_min` each can still follow.
  void NeedItems(uint64_t count, size_t item_bytes_min, std::string_view what) const {
    if (count > bytes_left() / item_bytes_min) {
      Refuse(where_, "at byte ", offset_, " the file promises ", count, " ", what,
             ", which cannot fit into the ", bytes_left(),
             " bytes that follow: it is damaged or cut short, fetch it again");
    }
  }

 private:
  void Need(uint64_t count, std::string_view what) const {
    if (count > bytes_left()) {
      Refuse(where_, "truncated: ", what, " at byte ", offset_, " needs ", count,
             " bytes, the file ends after ", bytes_left(), " more: fetch it again");
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  size_t offset_ = 0;
};

}  // namespace shoal::model
