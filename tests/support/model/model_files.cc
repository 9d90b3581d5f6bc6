#include "tests/support/model/model_files.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "transport/base/error.h"

// The containers' layout, written from the formats' specifications and not from our readers.

namespace shoal::test {
namespace {

constexpr uint32_t kUint32Type = 4;
constexpr uint32_t kInt32Type = 5;
constexpr uint32_t kFloat32Type = 6;
constexpr uint32_t kBoolType = 7;
constexpr uint32_t kStringType = 8;
constexpr uint32_t kArrayType = 9;

void PadTo(std::string& bytes, uint64_t alignment) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
}

}  // namespace

std::string GgufName(const std::string& name) { return LittleEndian<uint64_t>(name.size()) + name; }

std::string GgufUint32(uint32_t value) { return LittleEndian(kUint32Type) + LittleEndian(value); }

std::string GgufFloat32(float value) { return LittleEndian(kFloat32Type) + LittleEndian(value); }

std::string GgufBool(bool value) { return LittleEndian(kBoolType) + (value ? '\1' : '\0'); }

std::string GgufString(const std::string& value) {
  return LittleEndian(kStringType) + GgufName(value);
}

std::string GgufStrings(const std::vector<std::string>& values) {
  std::string bytes =
      LittleEndian(kArrayType) + LittleEndian(kStringType) + LittleEndian<uint64_t>(values.size());
  for (const std::string& value : values) {
    bytes += GgufName(value);
  }
  return bytes;
}

std::string GgufInt32s(const std::vector<int32_t>& values) {
  std::string bytes =
      LittleEndian(kArrayType) + LittleEndian(kInt32Type) + LittleEndian<uint64_t>(values.size());
  for (const int32_t value : values) {
    bytes += LittleEndian(value);
  }
  return bytes;
}

GgufTensor& GgufFile::tensor(const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const GgufTensor& tensor) { return tensor.name == name; });
  SHOAL_CHECK(found != tensors.end(), "no tensor ", name);
  return *found;
}

std::string& GgufFile::value(const std::string& key) {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const auto& pair) { return pair.first == key; });
  SHOAL_CHECK(found != keys.end(), "no key ", key);
  return found->second;
}

void GgufFile::EraseTensor(const std::string& name) {
  std::erase_if(tensors, [&](const GgufTensor& tensor) { return tensor.name == name; });
}

void GgufFile::EraseKey(const std::string& key) {
  std::erase_if(keys, [&](const auto& pair) { return pair.first == key; });
}

std::string GgufFile::HeaderBytes() const {
  std::string bytes = magic + LittleEndian(version);
  bytes += LittleEndian<uint64_t>(tensor_count.value_or(tensors.size()));
  bytes += LittleEndian<uint64_t>(key_count.value_or(keys.size()));
  for (const auto& [key, value] : keys) {
    bytes += GgufName(key) + value;
  }
  uint64_t next = 0;
  for (const GgufTensor& tensor : tensors) {
    bytes += GgufName(tensor.name);
    bytes += LittleEndian(static_cast<uint32_t>(tensor.dimensions.size()));
    for (const uint64_t dimension : tensor.dimensions) {
      bytes += LittleEndian(dimension);
    }
    bytes += LittleEndian(tensor.type) + LittleEndian(tensor.offset.value_or(next));
    next += (tensor.data.size() + alignment - 1) / alignment * alignment;
  }
  PadTo(bytes, alignment);
  return bytes;
}

std::string GgufFile::Bytes() const {
  std::string bytes = HeaderBytes();
  for (const GgufTensor& tensor : tensors) {
    bytes += tensor.data;
    PadTo(bytes, alignment);
  }
  return bytes;
}

std::string SafetensorsBytes(std::string header, const std::string& data) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return LittleEndian<uint64_t>(header.size()) + header + data;
}

std::string SafetensorsBytes(const std::vector<SafetensorsTensor>& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::string data;
  for (const SafetensorsTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return SafetensorsBytes(header.dump(), data);
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    Throw(ErrorCode::kFailed, path, ": cannot write ", bytes.size(), " bytes");
  }
}

}  // namespace shoal::test
