#include "parallel/model/model.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "parallel/model/config/end_ids.h"
#include "parallel/model/config/hf_config.h"
#include "parallel/model/config/json_fields.h"
#include "parallel/model/files/gguf.h"
#include "parallel/model/files/mapped_file.h"
#include "parallel/model/files/refuse.h"
#include "parallel/model/files/safetensors.h"
#include "parallel/model/open.h"
#include "parallel/model/resolve.h"
#include "transport/base/utf8.h"

// Opens a path: decides what it is, parses, resolves, and checks that the parts agree.

namespace shoal::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Far above any tokenizer.json in use (35 MB is the largest known to us).
constexpr size_t kJsonFileBytesMax = size_t{256} << 20;
constexpr size_t kConfigFileBytesMax = size_t{1} << 20;
constexpr size_t kIndexFileBytesMax = size_t{64} << 20;

class LoadedModel : public Model {
 public:
  explicit LoadedModel(const std::string& path) {
    path_ = path;
    fs::path trimmed = fs::path(path).lexically_normal();
    if (!trimmed.has_filename()) {
      trimmed = trimmed.parent_path();
    }
    name_ = ReplaceIllFormed(
        (trimmed.extension() == ".gguf" ? trimmed.stem() : trimmed.filename()).string());
  }

  void LoadGguf(std::span<const std::byte> bytes) {
    GgufContents contents = ParseGguf(bytes, path_);
    config_ = ReadGgufConfig(contents, path_);
    metadata_ = std::move(contents.metadata);
    all_tensors_ = std::move(contents.tensors);
    Resolve(NameScheme::kGguf, TiedOutput::kIfAbsent);
    const auto tokens = metadata_.find("tokenizer.ggml.tokens");
    if (tokens != metadata_.end()) {
      if (!tokens->is_array() || tokens->size() > static_cast<size_t>(config_.vocab_size)) {
        Refuse(path_, "tokenizer.ggml.tokens must be an array of at most ", config_.vocab_size,
               " tokens, the embedding's rows: convert the model again");
      }
      tokenizer_source_ = TokenizerSource::kGgufMetadata;
    } else if (metadata_.contains(kGgufTokenizerJsonKey)) {
      UnfoldTokenizerJson();
    }
    ReadEnds(path_);
    NoteNamedTemplates();
  }

  void LoadGgufFile() {
    files_.emplace_back(path_);
    LoadGguf(files_.back().bytes());
  }

  void LoadFolder() {
    const std::string config_path = InFolder("config.json");
    metadata_ = json::object();
    metadata_["config.json"] = ReadConfigObject("config.json");
    for (const char* optional_file :
         {"generation_config.json", "tokenizer_config.json", "tokenizer.json"}) {
      if (fs::exists(InFolder(optional_file))) {
        metadata_[optional_file] = ReadJsonFile(optional_file);
      }
    }
    if (fs::exists(InFolder(kChatTemplateFile))) {
      metadata_[kChatTemplateFile] = ReadTextFile(InFolder(kChatTemplateFile), kJsonFileBytesMax);
    }
    HfConfig config = ReadHfConfig(metadata_["config.json"], config_path);
    config_ = std::move(config.model);
    MapShards();
    const int64_t configured_vocab = config_.vocab_size;
    Resolve(NameScheme::kHuggingFace, config.tied);
    if (configured_vocab != config_.vocab_size) {
      Refuse(config_path, "vocab_size is ", configured_vocab, ", the embedding has ",
             config_.vocab_size, " rows: the files do not belong together, fetch the model again");
    }
    if (metadata_.contains("tokenizer.json")) {
      tokenizer_source_ = TokenizerSource::kTokenizerJson;
    }
    ReadEnds(config_path);
    Note("config.json has keys that are not known here and change nothing: ",
         UnknownHfKeys(metadata_["config.json"]));
    NoteNamedTemplates();
  }

  const json& metadata() const override { return metadata_; }

 private:
  void ReadEnds(const std::string& where) {
    config_.eos_ids = ReadEndIds(metadata_, config_.vocab_size, where);
    CheckConfig(config_, where);
  }

  // Nothing is noted of no names.
  void Note(std::string text, const std::vector<std::string>& names) {
    constexpr size_t kNamesMax = 20;
    if (names.empty()) return;
    for (size_t i = 0; i < std::min(names.size(), kNamesMax); ++i) {
      text += Str(i == 0 ? "" : ", ", Quoted(names[i]));
    }
    if (names.size() > kNamesMax) text += Str(" and ", names.size() - kNamesMax, " more");
    notes_.push_back(std::move(text));
  }

  // Chat templates beside the one that is used.
  void NoteNamedTemplates() {
    std::vector<std::string> names;
    constexpr std::string_view kGgufPrefix = "tokenizer.chat_template.";
    for (const auto& [key, value] : metadata_.items()) {
      if (key.starts_with(kGgufPrefix)) names.push_back(key.substr(kGgufPrefix.size()));
    }
    const json config = metadata_.value("tokenizer_config.json", json());
    const json list = config.is_object() ? config.value("chat_template", json()) : json();
    for (const json& item : list.is_array() ? list : json::array()) {
      const json name = item.is_object() ? item.value("name", json()) : json();
      if (name.is_string() && name != "default") names.push_back(name);
    }
    const std::string folder = InFolder("additional_chat_templates");
    if (fs::is_directory(folder)) {
      for (const auto& entry : fs::directory_iterator(folder)) {
        names.push_back(entry.path().stem().string());
      }
    }
    std::sort(names.begin(), names.end());
    Note("chat templates that are not used, only the default one is: ", names);
  }

  // A file made from a safetensors folder holds the folder's tokenizer files as texts.
  void UnfoldTokenizerJson() {
    for (const auto& [key, file] : {std::pair(kGgufTokenizerJsonKey, "tokenizer.json"),
                                    std::pair(kGgufTokenizerConfigKey, "tokenizer_config.json")}) {
      const auto text = metadata_.find(key);
      if (text == metadata_.end()) continue;
      if (!text->is_string()) {
        Refuse(path_, "the metadata key ", Quoted(key), " is a ", text->type_name(),
               ", expected a string: convert the model again");
      }
      metadata_[file] = ParseJsonObject(text->get<std::string>(), Str(path_, ", ", key));
    }
    tokenizer_source_ = TokenizerSource::kTokenizerJson;
  }

  std::string InFolder(const std::string& file) const { return (fs::path(path_) / file).string(); }

  json ReadConfigObject(const std::string& file) const {
    return ParseJsonObject(ReadTextFile(InFolder(file), kConfigFileBytesMax), InFolder(file));
  }

  json ReadJsonFile(const std::string& file) const {
    return ParseJsonObject(ReadTextFile(InFolder(file), kJsonFileBytesMax), InFolder(file));
  }

  void MapShards() {
    const std::string index = "model.safetensors.index.json";
    if (fs::exists(InFolder("model.safetensors"))) {
      AddShard("model.safetensors");
    } else if (fs::exists(InFolder(index))) {
      MapIndexedShards(index);
    } else {
      Refuse(path_, "neither model.safetensors nor ", index,
             " is in the folder: fetch the whole model");
    }
  }

  // Returns where the shard's tensors begin in all_tensors_.
  size_t AddShard(const std::string& file) {
    const size_t begin = all_tensors_.size();
    files_.emplace_back(InFolder(file));
    std::vector<Tensor> tensors = ParseSafetensors(files_.back().bytes(), InFolder(file));
    std::move(tensors.begin(), tensors.end(), std::back_inserter(all_tensors_));
    return begin;
  }

  void MapIndexedShards(const std::string& index) {
    const std::string where = InFolder(index);
    const json object = ParseJsonObject(ReadTextFile(where, kIndexFileBytesMax), where);
    const json* weight_map = JsonFields(object, where).TryObject("weight_map");
    if (weight_map == nullptr || weight_map->empty()) {
      Refuse(where, "the key \"weight_map\" is missing or empty: fetch the file again");
    }
    std::set<std::string> shards;
    for (const auto& [name, file] : weight_map->items()) {
      if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
        Refuse(where, "tensor ", Quoted(name),
               " must be mapped to the name of a file in this folder: fetch the file again");
      }
      shards.insert(file.get<std::string>());
    }
    for (const std::string& shard : shards) {
      for (size_t i = AddShard(shard); i < all_tensors_.size(); ++i) {
        const auto found = weight_map->find(all_tensors_[i].name);
        if (found == weight_map->end() || *found != shard) {
          Refuse(where, "tensor ", Quoted(all_tensors_[i].name), " is in ", shard,
                 " but not mapped to it: the files do not belong together, fetch the model again");
        }
      }
    }
    // Every tensor found is mapped, and no file holds a name twice; so equal counts mean equal
    // sets.
    if (all_tensors_.size() != weight_map->size()) {
      Refuse(where, "it maps ", weight_map->size(), " tensors, the files hold ",
             all_tensors_.size(), ": fetch the model again");
    }
  }

  // The index is untrusted: it must not name files outside its folder.
  static bool IsPlainFileName(const std::string& file) {
    return file.ends_with(".safetensors") && file.find('/') == std::string::npos &&
           file.find('\0') == std::string::npos;
  }

  void Resolve(NameScheme scheme, TiedOutput tied) {
    tensors_ = ResolveTensors(all_tensors_, scheme, tied, config_, path_, notes_);
    int64_t attention_group = 1;
    int64_t down_group = 1;
    for (const LayerTensors& layer : tensors_.layers) {
      for (const TensorSpec& tensor : layer.spec.tensors) {
        if (tensor.cut != TensorCut::kRowParallel) continue;
        int64_t& group = tensor.unit == CutUnit::kMlpColumns ? down_group : attention_group;
        group = std::max(group, GroupSize(layer[tensor.role].dtype));
      }
    }
    leaves_ = ComputeLeaves(config_, attention_group, down_group);
    for (const NamedTensor& named : GgufTensors(tensors_)) weight_bytes_ += named.tensor->bytes();
  }

  json metadata_;
  std::vector<MappedFile> files_;
  std::vector<Tensor> all_tensors_;
};

}  // namespace

std::unique_ptr<Model> Model::Open(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    Refuse(path, "no such file or folder: check the path, or fetch the model first");
  }
  auto model = std::make_unique<LoadedModel>(path);
  if (fs::is_directory(status)) {
    if (!fs::exists(fs::path(path) / "config.json")) {
      Refuse(path,
             "the folder has no config.json: pass a .gguf file, or a folder with config.json "
             "and *.safetensors");
    }
    model->LoadFolder();
  } else if (fs::is_regular_file(status)) {
    model->LoadGgufFile();
  } else {
    Refuse(path,
           "expected a .gguf file or a folder with config.json and *.safetensors, found "
           "neither: check the path");
  }
  return model;
}

std::unique_ptr<Model> OpenGgufBytes(std::span<const std::byte> gguf_bytes,
                                     const std::string& path) {
  auto model = std::make_unique<LoadedModel>(path);
  model->LoadGguf(gguf_bytes);
  return model;
}

}  // namespace shoal::model
