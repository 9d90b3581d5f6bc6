#include "parallel/model/files/gguf.h"

#include <array>
#include <bit>
#include <unordered_set>

#include "parallel/model/files/byte_reader.h"
#include "parallel/model/files/refuse.h"
#include "parallel/model/tensor_layout.h"

// The container. What the metadata mean is in gguf_config.cc.

namespace shoal::model {
namespace {

using nlohmann::json;

constexpr uint32_t kMagic = 0x46554747;  // "GGUF" read as a little-endian number.
constexpr uint64_t kAlignmentDefault = 32;
constexpr uint64_t kAlignmentMax = uint64_t{1} << 20;
constexpr uint32_t kDimensionsMax = 4;
// The format allows arrays of arrays but no writer nests deeper than one.
constexpr int kArrayDepthMax = 4;

enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// The smallest a value of each type can be in the file, by type number.
constexpr std::array<size_t, 13> kValueBytesMin = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

// Names of the other types that are common in files, for the message.
std::string_view OtherTypeName(uint32_t number) {
  switch (number) {
    case 10:
      return "Q2_K";
    case 11:
      return "Q3_K";
    case 23:
      return "IQ4_XS";
    default:
      return "unknown";
  }
}

DType ToDType(uint32_t number, std::string_view name, const std::string& where) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (kDTypeFacts[i].gguf_type == number) return static_cast<DType>(i);
  }
  std::string names;
  for (const DTypeFacts& facts : kDTypeFacts) names += Str(names.empty() ? "" : ", ", facts.name);
  Refuse(where, "tensor ", Quoted(name), " has the format ", OtherTypeName(number), " (type ",
         number, "); supported are ", names, ": take or convert to one of these");
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& where)
      : bytes_(bytes), where_(where), reader_(bytes, where) {}

  GgufContents Parse() {
    ReadVersion();
    const auto tensor_count = reader_.Read<uint64_t>("the tensor count");
    const auto key_count = reader_.Read<uint64_t>("the metadata count");
    GgufContents contents;
    contents.metadata = json::object();
    // A key's length, its value's type and one byte of value; a tensor's name length, dimension
    // count, one dimension, type and offset.
    reader_.NeedItems(key_count, 8 + 4 + 1, "metadata keys");
    for (uint64_t i = 0; i < key_count; ++i) {
      ReadKey(contents.metadata);
    }
    alignment_ = ReadAlignment(contents.metadata);
    reader_.NeedItems(tensor_count, 8 + 4 + 8 + 4 + 8, "tensors");
    contents.tensors.reserve(tensor_count);
    for (uint64_t i = 0; i < tensor_count; ++i) {
      ReadTensor(contents.tensors);
    }
    PlaceTensors(contents.tensors);
    return contents;
  }

 private:
  void ReadVersion() {
    if (reader_.Read<uint32_t>("the magic number") != kMagic) {
      Refuse(where_,
             "expected a GGUF file, which starts with the letters GGUF: pass a .gguf file or "
             "a folder with config.json and *.safetensors");
    }
    const auto version = reader_.Read<uint32_t>("the version");
    if (version == 0x02000000 || version == 0x03000000) {
      Refuse(where_, "this is a big-endian GGUF file: convert it to little-endian");
    }
    if (version != 2 && version != 3) {
      Refuse(where_, "GGUF version ", version,
             " is not supported, 2 and 3 are: convert the model again with a current converter");
    }
  }

  void ReadKey(json& metadata) {
    const std::string_view key = reader_.ReadString("a metadata key");
    const auto type = reader_.Read<uint32_t>("a metadata value's type");
    json value = ReadValue(type, key, 0);
    if (!metadata.emplace(std::string(key), std::move(value)).second) {
      Refuse(where_, "the metadata key ", Quoted(key), " stands twice: convert the model again");
    }
  }

  json ReadValue(uint32_t type, std::string_view key, int depth) {
    switch (static_cast<ValueType>(type)) {
      case ValueType::kUint8:
        return reader_.Read<uint8_t>(key);
      case ValueType::kInt8:
        return reader_.Read<int8_t>(key);
      case ValueType::kUint16:
        return reader_.Read<uint16_t>(key);
      case ValueType::kInt16:
        return reader_.Read<int16_t>(key);
      case ValueType::kUint32:
        return reader_.Read<uint32_t>(key);
      case ValueType::kInt32:
        return reader_.Read<int32_t>(key);
      case ValueType::kFloat32:
        return reader_.Read<float>(key);
      case ValueType::kBool:
        return ReadBool(key);
      case ValueType::kString:
        return std::string(reader_.ReadString(key));
      case ValueType::kArray:
        return ReadArray(key, depth);
      case ValueType::kUint64:
        return reader_.Read<uint64_t>(key);
      case ValueType::kInt64:
        return reader_.Read<int64_t>(key);
      case ValueType::kFloat64:
        return reader_.Read<double>(key);
    }
    Refuse(where_, "the metadata key ", Quoted(key), " has the value type ", type,
           ", the largest known is 12: the file is damaged or newer than this program");
  }

  bool ReadBool(std::string_view key) {
    const auto byte = reader_.Read<uint8_t>(key);
    if (byte > 1) {
      Refuse(where_, "the metadata key ", Quoted(key), " must be a bool, 0 or 1, found ",
             static_cast<int>(byte), ": the file is damaged, fetch it again");
    }
    return byte == 1;
  }

  json ReadArray(std::string_view key, int depth) {
    const auto type = reader_.Read<uint32_t>(key);
    const auto count = reader_.Read<uint64_t>(key);
    if (depth >= kArrayDepthMax) {
      Refuse(where_, "the metadata key ", Quoted(key), " nests arrays more than ", kArrayDepthMax,
             " deep: the file is damaged, fetch it again");
    }
    // An unknown type is refused by ReadValue; until then one byte is the least it can take.
    reader_.NeedItems(count, type < kValueBytesMin.size() ? kValueBytesMin[type] : 1,
                      "array elements");
    json array = json::array();
    auto& elements = array.get_ref<json::array_t&>();
    elements.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      elements.push_back(ReadValue(type, key, depth + 1));
    }
    return array;
  }

  uint64_t ReadAlignment(const json& metadata) const {
    const auto found = metadata.find("general.alignment");
    if (found == metadata.end()) {
      return kAlignmentDefault;
    }
    if (!found->is_number_unsigned() || !std::has_single_bit(found->get<uint64_t>()) ||
        found->get<uint64_t>() < 8 || found->get<uint64_t>() > kAlignmentMax) {
      Refuse(where_, "general.alignment must be a power of two from 8 to ", kAlignmentMax,
             ": the file is damaged, convert the model again");
    }
    return found->get<uint64_t>();
  }

  void ReadTensor(std::vector<Tensor>& tensors) {
    const std::string_view name = reader_.ReadString("a tensor's name");
    if (!names_.insert(name).second) {
      Refuse(where_, "the tensor ", Quoted(name), " stands twice: convert the model again");
    }
    const auto dimension_count = reader_.Read<uint32_t>(name);
    if (dimension_count == 0 || dimension_count > kDimensionsMax) {
      Refuse(where_, "tensor ", Quoted(name), " has ", dimension_count,
             " dimensions, expected 1 to 4: the file is damaged, fetch it again");
    }
    std::array<uint64_t, kDimensionsMax> dimensions = {1, 1, 1, 1};
    for (uint32_t i = 0; i < dimension_count; ++i) {
      dimensions[i] = reader_.Read<uint64_t>(name);
    }
    if (dimensions[2] != 1 || dimensions[3] != 1) {
      Refuse(where_, "tensor ", Quoted(name),
             " has more than two dimensions larger than 1 or one of 0; "
             "the llama family has only vectors and matrices: take another model");
    }
    const DType dtype = ToDType(reader_.Read<uint32_t>(name), name, where_);
    // GGUF lists the fastest dimension first: inputs, then outputs.
    tensors.push_back(MakeTensor(name, dtype, dimensions[1], dimensions[0], where_));
    offsets_.push_back(reader_.Read<uint64_t>(name));
  }

  void PlaceTensors(std::vector<Tensor>& tensors) {
    if (tensors.empty()) {
      return;
    }
    // Offsets count from the first aligned byte after the headers.
    const uint64_t data_begin = (reader_.offset() + alignment_ - 1) / alignment_ * alignment_;
    if (data_begin > bytes_.size()) {
      Refuse(where_, "truncated: the tensors' data should start at byte ", data_begin,
             ", the file ends at ", bytes_.size(), ": fetch it again");
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (offsets_[i] % alignment_ != 0) {
        Refuse(where_, "tensor ", Quoted(tensors[i].name), " starts at offset ", offsets_[i],
               ", which is no multiple of the alignment ", alignment_,
               ": the file is damaged, convert the model again");
      }
      PlaceTensor(tensors[i], bytes_.subspan(data_begin), offsets_[i], where_);
    }
    CheckNoOverlap(tensors, where_);
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  ByteReader reader_;
  uint64_t alignment_ = kAlignmentDefault;
  std::unordered_set<std::string_view> names_;
  std::vector<uint64_t> offsets_;
};

}  // namespace

GgufContents ParseGguf(std::span<const std::byte> bytes, const std::string& where) {
  return Parser(bytes, where).Parse();
}

}  // namespace shoal::model
