#include "parallel/model/files/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "parallel/model/config/end_ids.h"
#include "parallel/model/files/gguf.h"
#include "parallel/model/files/refuse.h"

namespace shoal::model {
namespace {

using nlohmann::json;

// Numbers of GGUF's value types.
enum class ValueType : uint32_t {
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

template <typename T>
void Put(std::string& bytes, T value) {
  char data[sizeof(T)];
  std::memcpy(data, &value, sizeof(T));
  bytes.append(data, sizeof(T));
}

void PutString(std::string& bytes, const std::string& text) {
  Put<uint64_t>(bytes, text.size());
  bytes += text;
}

bool FitsFloat(double value) {
  return value != value || double{static_cast<float>(value)} == value;
}

ValueType TypeOf(const json& value, const std::string& key) {
  switch (value.type()) {
    case json::value_t::number_unsigned:
      return value.get<uint64_t>() <= UINT32_MAX ? ValueType::kUint32 : ValueType::kUint64;
    case json::value_t::number_integer: {
      const auto number = value.get<int64_t>();
      return number >= INT32_MIN && number <= INT32_MAX ? ValueType::kInt32 : ValueType::kInt64;
    }
    case json::value_t::number_float:
      return FitsFloat(value.get<double>()) ? ValueType::kFloat32 : ValueType::kFloat64;
    case json::value_t::boolean:
      return ValueType::kBool;
    case json::value_t::string:
      return ValueType::kString;
    case json::value_t::array:
      return ValueType::kArray;
    default:
      Throw(ErrorCode::kInvalidArgument, "the metadata key ", Quoted(key), " is a ",
            value.type_name(), ", which GGUF has no type for: remove it from the source");
  }
}

// The type that holds every element: of the numbers of one kind, the widest.
ValueType ElementType(const json& array, const std::string& key) {
  if (array.empty()) return ValueType::kString;
  ValueType type = TypeOf(array.front(), key);
  for (const json& element : array) {
    const ValueType other = TypeOf(element, key);
    if (other == type || element.type() != array.front().type()) continue;
    type = std::max(type, other);
  }
  for (const json& element : array) {
    if (element.type() == array.front().type()) continue;
    Throw(ErrorCode::kInvalidArgument, "the metadata key ", Quoted(key),
          " is an array of mixed types, which GGUF has no type for: remove it from the source");
  }
  return type;
}

void PutValue(std::string& bytes, ValueType type, const json& value, const std::string& key) {
  switch (type) {
    case ValueType::kUint32:
      return Put(bytes, value.get<uint32_t>());
    case ValueType::kInt32:
      return Put(bytes, value.get<int32_t>());
    case ValueType::kFloat32:
      return Put(bytes, static_cast<float>(value.get<double>()));
    case ValueType::kBool:
      return Put<uint8_t>(bytes, value.get<bool>() ? 1 : 0);
    case ValueType::kString:
      return PutString(bytes, value.get_ref<const std::string&>());
    case ValueType::kUint64:
      return Put(bytes, value.get<uint64_t>());
    case ValueType::kInt64:
      return Put(bytes, value.get<int64_t>());
    case ValueType::kFloat64:
      return Put(bytes, value.get<double>());
    case ValueType::kArray: {
      const ValueType element_type = ElementType(value, key);
      Put(bytes, element_type);
      Put<uint64_t>(bytes, value.size());
      for (const json& element : value) PutValue(bytes, element_type, element, key);
      return;
    }
  }
}

// One for all layers, or one for each.
json FfnDims(const ModelConfig& config) {
  const json dims = std::vector<uint64_t>(config.ffn_dims.begin(), config.ffn_dims.end());
  return dims.size() == 1 ? dims.front() : dims;
}

// What config.json says, in GGUF's words.
json MetadataOfConfig(const Model& model) {
  const ModelConfig& config = model.config();
  json metadata = {{"general.architecture", config.family},
                   {"general.name", model.name()},
                   {"llama.block_count", static_cast<uint64_t>(config.layer_count)},
                   {"llama.context_length", static_cast<uint64_t>(config.context_tokens)},
                   {"llama.embedding_length", static_cast<uint64_t>(config.hidden_dim)},
                   {"llama.feed_forward_length", FfnDims(config)},
                   {"llama.attention.head_count", static_cast<uint64_t>(config.head_count)},
                   {"llama.attention.head_count_kv", static_cast<uint64_t>(config.kv_head_count)},
                   {"llama.attention.key_length", static_cast<uint64_t>(config.head_dim)},
                   {"llama.attention.value_length", static_cast<uint64_t>(config.head_dim)},
                   {"llama.rope.dimension_count", static_cast<uint64_t>(config.head_dim)},
                   {"llama.vocab_size", static_cast<uint64_t>(config.vocab_size)},
                   {"llama.rope.freq_base", config.rope.theta},
                   {"llama.attention.layer_norm_rms_epsilon", double{config.norm_epsilon}}};
  if (config.rope.linear_factor != 1) {
    metadata["llama.rope.scaling.type"] = "linear";
    metadata["llama.rope.scaling.factor"] = config.rope.linear_factor;
  }
  // Other readers know the first; ours all.
  if (!config.eos_ids.empty()) {
    metadata["tokenizer.ggml.eos_token_id"] = static_cast<uint64_t>(config.eos_ids[0]);
    metadata[kGgufEndIdsKey] = std::vector<uint64_t>(config.eos_ids.begin(), config.eos_ids.end());
  }
  if (const auto found = model.metadata().find(kChatTemplateFile);
      found != model.metadata().end()) {
    metadata["tokenizer.chat_template"] = *found;
  }
  for (const auto& [file, key] : {std::pair("tokenizer.json", kGgufTokenizerJsonKey),
                                  std::pair("tokenizer_config.json", kGgufTokenizerConfigKey)}) {
    const auto found = model.metadata().find(file);
    if (found != model.metadata().end()) metadata[key] = found->dump();
  }
  return metadata;
}

}  // namespace

std::string GgufHeader(const json& metadata, std::span<const GgufTensorPlan> tensors) {
  std::string bytes = "GGUF";
  Put<uint32_t>(bytes, 3);
  Put<uint64_t>(bytes, tensors.size());
  Put<uint64_t>(bytes, metadata.size());
  for (const auto& [key, value] : metadata.items()) {
    const ValueType type = TypeOf(value, key);
    PutString(bytes, key);
    Put(bytes, type);
    PutValue(bytes, type, value, key);
  }
  int64_t offset = 0;
  for (const GgufTensorPlan& tensor : tensors) {
    PutString(bytes, tensor.name);
    Put<uint32_t>(bytes, tensor.rows == 1 ? 1 : 2);
    Put<uint64_t>(bytes, static_cast<uint64_t>(tensor.cols));
    if (tensor.rows != 1) Put<uint64_t>(bytes, static_cast<uint64_t>(tensor.rows));
    Put<uint32_t>(bytes, FactsOf(tensor.dtype).gguf_type);
    Put<uint64_t>(bytes, static_cast<uint64_t>(offset));
    offset += tensor.bytes() + GgufPadding(tensor.bytes());
  }
  bytes.append(static_cast<size_t>(GgufPadding(static_cast<int64_t>(bytes.size()))), '\0');
  return bytes;
}

json GgufMetadata(const Model& model) {
  if (model.metadata().contains("config.json")) return MetadataOfConfig(model);
  json metadata = model.metadata();
  for (auto entry = metadata.begin(); entry != metadata.end();) {
    // The tokenizer's objects were unfolded from texts, which stay.
    const bool of_the_file = entry.key() == "general.alignment" ||
                             entry.key() == "general.file_type" ||
                             entry.key().starts_with("split.") || entry.value().is_object();
    entry = of_the_file ? metadata.erase(entry) : std::next(entry);
  }
  return metadata;
}

}  // namespace shoal::model
