#pragma once

// A model on disk, opened: its configuration, its tensors (memory-mapped, never copied whole), and
// the metadata its tokenizer and chat template come from.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/format/dtype.h"
#include "parallel/model/config/config.h"
#include "parallel/model/layer_spec.h"

namespace shoal::model {

// One tensor in the mapped file. Matrices are [rows = outputs][cols = inputs], vectors [1][cols]
// (GGUF's reversed dimensions are already put right). `data` stays valid as long as the Model.
struct Tensor {
  std::string name;  // As in the file.
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;

  int64_t row_bytes() const { return RowBytes(dtype, cols); }
  int64_t bytes() const { return rows * row_bytes(); }
  const std::byte* row(int64_t index) const { return data + index * row_bytes(); }
};

// Refuses scales and minimums that are infinite or not a number in the blocks of rows
// [row_begin, row_end). Reads those rows, so a rank calls it for its shard only. Errors:
// kInvalidArgument, naming `where` (usually the model's path), tensor, row and block.
void CheckScales(const Tensor& tensor, int64_t row_begin, int64_t row_end,
                 const std::string& where = "the model");

struct LayerTensors {
  LayerSpec spec;
  // By role; null where the spec has no such tensor.
  std::array<const Tensor*, kTensorRoles> by_role = {};

  // Needs the spec to have it.
  const Tensor& operator[](TensorRole role) const { return *by_role[static_cast<size_t>(role)]; }
};

struct ModelTensors {
  const Tensor* token_embedding = nullptr;  // [vocab_size][hidden_dim]
  std::vector<LayerTensors> layers;         // [layer_count]
  const Tensor* output_norm = nullptr;      // [1][hidden_dim]
  const Tensor* output = nullptr;           // [vocab_size][hidden_dim]; token_embedding if tied.
  // Rope frequencies that a folder holds beside the weights, from when they were saved too: what
  // the configuration says counts, and these must agree.
  std::vector<const Tensor*> stored_frequencies;  // Each [1][head_dim / 2].
};

// A folder's chat template, which wins over tokenizer_config.json's.
constexpr const char* kChatTemplateFile = "chat_template.jinja";

// What the tokenizer is made from.
enum class TokenizerSource : uint8_t {
  kNone,           // The model brings no tokenizer; requests must carry token ids.
  kGgufMetadata,   // metadata()'s "tokenizer.*" keys.
  kTokenizerJson,  // metadata()'s "tokenizer.json" and "tokenizer_config.json" objects.
};

// Immutable, thread-safe.
class Model {
 public:
  // Opens a .gguf file, or a folder with config.json and *.safetensors. Reads headers only (and an
  // output head that should equal the embedding), checks every offset, shape and count against the
  // files' sizes, and resolves every tensor of the family. Errors: kInvalidArgument for anything
  // wrong with the files: it names the file, the place, what was expected, what was found and what
  // to do.
  static std::unique_ptr<Model> Open(const std::string& path);

  virtual ~Model() = default;

  const std::string& path() const { return path_; }
  // The file's or folder's name without .gguf; UTF-8, with U+FFFD for what is not.
  const std::string& name() const { return name_; }
  const ModelConfig& config() const { return config_; }
  const LeafGeometry& leaves() const { return leaves_; }
  const ModelTensors& tensors() const { return tensors_; }
  // Bytes of all tensors of the model, each counted once.
  int64_t weight_bytes() const { return weight_bytes_; }
  TokenizerSource tokenizer_source() const { return tokenizer_source_; }
  // GGUF: an object of all metadata keys (arrays as JSON arrays; strings as bytes in std::string,
  // which need not be UTF-8). Folder: {"tokenizer.json": ..., "tokenizer_config.json": ...,
  // "config.json": ..., "generation_config.json": ..., "chat_template.jinja": "..."}, those that
  // exist.
  virtual const nlohmann::json& metadata() const = 0;
  // What the files hold and nothing uses, a sentence each, for a log.
  const std::vector<std::string>& notes() const { return notes_; }

 protected:
  Model() = default;

  std::string path_;
  std::string name_;
  ModelConfig config_;
  LeafGeometry leaves_;
  ModelTensors tensors_;
  int64_t weight_bytes_ = 0;
  TokenizerSource tokenizer_source_ = TokenizerSource::kNone;
  std::vector<std::string> notes_;
};

}  // namespace shoal::model
