#include <algorithm>
#include <array>
#include <string_view>

#include "parallel/model/gguf.h"
#include "parallel/model/json_fields.h"
#include "parallel/model/refuse.h"

// What a GGUF file's metadata say about a llama model.

namespace shoal::model {
namespace {

// Every key of the family that is read here or cannot change the result. A file with another
// "llama." key asks for something this program would silently leave out.
constexpr std::array<std::string_view, 25> kKnownKeys = {
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.causal",
    "llama.attention.sliding_window",
    "llama.expert_count",
    "llama.expert_used_count",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.attn_factor",
    "llama.tensor_data_layout",
    "llama.use_parallel_residual",
    "llama.vocab_size",
    "llama.pooling_type"};

constexpr std::string_view kTakeAnother = ": take a model without it";

void RefuseUnless(bool condition, const JsonFields& fields, std::string_view key) {
  if (!condition) {
    Refuse(fields.where(), "the metadata key ", Quoted(key),
           " asks for something that is not supported", kTakeAnother);
  }
}

void CheckArchitecture(const JsonFields& fields) {
  const std::optional<std::string> architecture = fields.TryString("general.architecture");
  if (!architecture) {
    Refuse(
        fields.where(),
        "the metadata key \"general.architecture\" is missing: this is no model, or a damaged one");
  }
  if (*architecture != "llama") {
    Refuse(fields.where(), "the architecture ", Quoted(*architecture),
           " is not supported, only \"llama\" is: take a model of that family");
  }
}

void CheckUnsupported(const JsonFields& fields, const nlohmann::json& metadata) {
  for (const auto& [key, value] : metadata.items()) {
    const bool known = !key.starts_with("llama.") ||
                       std::find(kKnownKeys.begin(), kKnownKeys.end(), key) != kKnownKeys.end();
    RefuseUnless(known, fields, key);
  }
  RefuseUnless(fields.TryBool("llama.attention.causal").value_or(true), fields,
               "llama.attention.causal");
  RefuseUnless(!fields.TryBool("llama.use_parallel_residual").value_or(false), fields,
               "llama.use_parallel_residual");
  for (const char* key : {"llama.attention.sliding_window", "llama.expert_count",
                          "llama.expert_used_count", "llama.pooling_type"}) {
    RefuseUnless(fields.TryCount(key).value_or(0) == 0, fields, key);
  }
  const std::string scaling = fields.TryString("llama.rope.scaling.type").value_or("none");
  if (scaling != "none") {
    Refuse(fields.where(), "the rope scaling type ", Quoted(scaling),
           " (llama.rope.scaling.type) is not supported, only \"none\" and llama 3's "
           "rope_freqs.weight are",
           kTakeAnother);
  }
  for (const char* key : {"llama.rope.scale_linear", "llama.rope.scaling.attn_factor"}) {
    RefuseUnless(fields.TryNumber(key).value_or(1) == 1, fields, key);
  }
}

void ReadEos(const JsonFields& fields, ModelConfig& config) {
  // Chat models end a turn with another token than a document.
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    const std::optional<int64_t> id = fields.TryCount(key);
    if (id &&
        std::find(config.eos_ids.begin(), config.eos_ids.end(), *id) == config.eos_ids.end()) {
      config.eos_ids.push_back(static_cast<int32_t>(*id));
    }
  }
}

}  // namespace

ModelConfig ReadGgufConfig(const GgufContents& contents, const std::string& where) {
  const JsonFields fields(contents.metadata, where);
  CheckArchitecture(fields);
  CheckUnsupported(fields, contents.metadata);
  ModelConfig config;
  config.family = "llama";
  config.layer_count = fields.Count("llama.block_count");
  config.hidden_dim = fields.Count("llama.embedding_length");
  config.head_count = fields.Count("llama.attention.head_count");
  config.kv_head_count =
      fields.TryCount("llama.attention.head_count_kv").value_or(config.head_count);
  config.ffn_dim = fields.Count("llama.feed_forward_length");
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
  config.rope.layout = RopeLayout::kAdjacentPairs;
  ReadEos(fields, config);
  CheckConfig(config, where);
  return config;
}

}  // namespace shoal::model
