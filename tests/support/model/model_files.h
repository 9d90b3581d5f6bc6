#pragma once

// Model files byte by byte, right or wrong: every field can be set, so that tests can break it.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shoal::test {

// A little-endian number's bytes.
template <typename T>
std::string LittleEndian(T value) {
  std::string bytes(sizeof(T), '\0');
  __builtin_memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// A GGUF value: its type's number and its bytes.
std::string GgufUint32(uint32_t value);
std::string GgufFloat32(float value);
std::string GgufBool(bool value);
std::string GgufString(const std::string& value);
std::string GgufStrings(const std::vector<std::string>& values);
std::string GgufInt32s(const std::vector<int32_t>& values);

// A u64 length and the bytes, as GGUF writes names.
std::string GgufName(const std::string& name);

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // Fastest first.
  uint32_t type = 0;                 // ggml_type's number.
  std::string data;
  std::optional<uint64_t> offset;  // Instead of the next aligned one.
};

struct GgufFile {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count;  // Instead of the right ones.
  std::optional<uint64_t> key_count;
  uint64_t alignment = 32;
  std::vector<std::pair<std::string, std::string>> keys;  // Values from the functions above.
  std::vector<GgufTensor> tensors;

  // The tensor or the value of that name; fails the process if there is none.
  GgufTensor& tensor(const std::string& name);
  std::string& value(const std::string& key);
  void EraseTensor(const std::string& name);
  void EraseKey(const std::string& key);

  // Up to the data, padded to the alignment; and all of it.
  std::string HeaderBytes() const;
  std::string Bytes() const;
};

struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // "F32", "F16", "BF16".
  std::vector<int64_t> shape;
  std::string data;
};

// The header's length, the header padded with spaces to a multiple of 8, the data.
std::string SafetensorsBytes(std::string header, const std::string& data);
std::string SafetensorsBytes(const std::vector<SafetensorsTensor>& tensors);

// Errors: kFailed if it cannot be written whole.
void WriteFile(const std::string& path, const std::string& bytes);

}  // namespace shoal::test
