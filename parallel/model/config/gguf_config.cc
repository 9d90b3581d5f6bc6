#include <algorithm>
#include <iterator>
#include <string_view>

#include "parallel/model/config/idle_keys.h"
#include "parallel/model/config/json_fields.h"
#include "parallel/model/files/gguf.h"
#include "parallel/model/files/refuse.h"
#include "parallel/model/layer_spec.h"

// What a GGUF file's metadata say about a llama model.

namespace shoal::model {
namespace {

// Keys of the family that are read below. A file with another "llama." key than these and the idle
// ones asks for something this program would silently leave out.
constexpr std::string_view kReadKeys[] = {"llama.block_count",
                                          "llama.context_length",
                                          "llama.embedding_length",
                                          "llama.feed_forward_length",
                                          "llama.attention.head_count",
                                          "llama.attention.head_count_kv",
                                          "llama.attention.key_length",
                                          "llama.attention.value_length",
                                          "llama.attention.layer_norm_rms_epsilon",
                                          "llama.rope.dimension_count",
                                          "llama.rope.freq_base",
                                          "llama.rope.scale_linear",
                                          "llama.rope.scaling.type",
                                          "llama.rope.scaling.factor"};

constexpr IdleKey kIdleKeys[] = {
    {"llama.attention.causal", "[true]", "each position sees those before it"},
    {"llama.attention.sliding_window", "[0]", "each position sees all before it"},
    {"llama.expert_count", "[0]", "each layer has one MLP"},
    {"llama.expert_used_count", "[0]", "each layer has one MLP"},
    {"llama.use_parallel_residual", "[false]", "the MLP reads what attention has added to"},
    {"llama.pooling_type", "[0]", "tokens are generated, no embeddings of texts"},
    {"llama.rope.scaling.attn_factor", "[1]", "cosines and sines are not scaled"},
    {"llama.tensor_data_layout", R"(["reference", "Meta AI original pth"])",
     "queries and keys rotate adjacent pairs"},
    {"llama.rope.scaling.original_context_length", "", "only yarn and longrope use it"},
    {"llama.rope.scaling.finetuned", "", "it says how the model was made"},
    {"llama.vocab_size", "", "the embedding's rows say it"},
    // Of all families.
    {"general.type", R"(["model"])", "an adapter or a projector is no whole model"},
    {"general.quantization_version", "[2]", "blocks of other versions have other layouts"},
    {"split.count", "[0, 1]", "the other parts hold the rest: join them with gguf-split --merge"},
};

const Family& FamilyOf(const JsonFields& fields) {
  const std::optional<std::string> architecture = fields.TryString("general.architecture");
  if (!architecture) {
    Refuse(
        fields.where(),
        "the metadata key \"general.architecture\" is missing: this is no model, or a damaged one");
  }
  const Family* family = FindFamily(*architecture);
  if (family == nullptr) {
    Refuse(fields.where(), "the architecture ", Quoted(*architecture), " is not supported, only ",
           FamilyNames(), " is: take a model of that family");
  }
  return *family;
}

void CheckUnsupported(const JsonFields& fields, const nlohmann::json& metadata) {
  for (const auto& [key, value] : metadata.items()) {
    const bool is_read =
        std::find(std::begin(kReadKeys), std::end(kReadKeys), key) != std::end(kReadKeys);
    if (!key.starts_with("llama.") || is_read || FindIdleKey(kIdleKeys, key) != nullptr) continue;
    Refuse(fields.where(), "the metadata key ", Quoted(key),
           " is not known: it may ask for something that is not supported: take a model without "
           "it");
  }
  CheckIdleKeys(metadata, kIdleKeys, fields.where());
}

// What positions are divided by. A factor without a type is linear; of no scaling at all the factor
// is 0 or 1. "none" turns a factor off.
double ReadLinearFactor(const JsonFields& fields) {
  const std::string type = fields.TryString("llama.rope.scaling.type").value_or("linear");
  if (type != "none" && type != "linear") {
    Refuse(fields.where(), "the rope scaling type ", Quoted(type),
           " (llama.rope.scaling.type) is not supported, only \"none\", \"linear\" and llama 3's "
           "rope_freqs.weight are: take a model without it");
  }
  const std::optional<double> factor = fields.TryNumber("llama.rope.scaling.factor");
  const std::optional<double> older = fields.TryNumber("llama.rope.scale_linear");
  if (factor && older && *factor != *older) {
    Refuse(fields.where(), "llama.rope.scaling.factor is ", *factor,
           ", its older name llama.rope.scale_linear is ", *older,
           ": remove the wrong one, or convert the model again");
  }
  const double value = factor ? *factor : older.value_or(1);
  return type == "none" || value == 0 ? 1 : value;
}

}  // namespace

ModelConfig ReadGgufConfig(const GgufContents& contents, const std::string& where) {
  const JsonFields fields(contents.metadata, where);
  ModelConfig config;
  config.family = FamilyOf(fields).name;
  CheckUnsupported(fields, contents.metadata);
  config.layer_count = fields.Count("llama.block_count");
  config.hidden_dim = fields.Count("llama.embedding_length");
  config.head_count = fields.Count("llama.attention.head_count");
  config.kv_head_count =
      fields.TryCount("llama.attention.head_count_kv").value_or(config.head_count);
  config.ffn_dims = fields.Counts("llama.feed_forward_length", config.layer_count);
  config.context_tokens = fields.Count("llama.context_length");
  config.norm_epsilon = static_cast<float>(fields.Number("llama.attention.layer_norm_rms_epsilon"));
  const std::optional<int64_t> key_length = fields.TryCount("llama.attention.key_length");
  if (!key_length && (config.head_count == 0 || config.hidden_dim % config.head_count != 0)) {
    Refuse(where, "the hidden dimension ", config.hidden_dim, " is no multiple of ",
           config.head_count,
           " heads and llama.attention.key_length is missing: convert the model again");
  }
  config.head_dim = key_length ? *key_length : config.hidden_dim / config.head_count;
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    const int64_t length = fields.TryCount(key).value_or(config.head_dim);
    if (length != config.head_dim) {
      Refuse(where, "the metadata key ", Quoted(key), " is ", length, ", the head dimension is ",
             config.head_dim, "; only equal ones are supported: take another model");
    }
  }
  config.rope.theta = fields.TryNumber("llama.rope.freq_base").value_or(10000);
  config.rope.linear_factor = ReadLinearFactor(fields);
  config.rope.layout = RopeLayout::kAdjacentPairs;
  CheckConfig(config, where);
  return config;
}

}  // namespace shoal::model
