#pragma once

// A set of byte values.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace shoal::text::grammar {

class ByteSet {
 public:
  static constexpr ByteSet Range(uint8_t first, uint8_t last) {
    ByteSet set;
    for (uint32_t byte = first; byte <= last; ++byte) set.Add(static_cast<uint8_t>(byte));
    return set;
  }
  static constexpr ByteSet All() { return Range(0, 255); }

  constexpr void Add(uint8_t byte) { words_[byte >> 6] |= uint64_t{1} << (byte & 63); }
  constexpr bool Has(uint8_t byte) const { return ((words_[byte >> 6] >> (byte & 63)) & 1) != 0; }
  constexpr bool empty() const { return (words_[0] | words_[1] | words_[2] | words_[3]) == 0; }

  // Precondition: not empty.
  constexpr uint8_t First() const {
    size_t i = 0;
    while (words_[i] == 0) ++i;
    return static_cast<uint8_t>(i * 64 + static_cast<size_t>(std::countr_zero(words_[i])));
  }

  // KeepOnly keeps the bytes that are in `other`, Remove those that are not.
  constexpr void KeepOnly(const ByteSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  constexpr void Remove(const ByteSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }
  constexpr void Unite(const ByteSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }

  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
        visit(static_cast<uint8_t>(i * 64 + static_cast<size_t>(std::countr_zero(word))));
      }
    }
  }

  constexpr bool operator==(const ByteSet&) const = default;
  constexpr auto operator<=>(const ByteSet&) const = default;

 private:
  std::array<uint64_t, 4> words_{};
};

}  // namespace shoal::text::grammar
