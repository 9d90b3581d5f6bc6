#include "parallel/model/config/hf_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "parallel/model/config/idle_keys.h"
#include "parallel/model/config/json_fields.h"
#include "parallel/model/files/refuse.h"
#include "parallel/model/layer_spec.h"

// config.json to ModelConfig.

namespace shoal::model {
namespace {

using nlohmann::json;

constexpr std::string_view kTakeAnother = ": take another model";

// Keys that are read below, or by others: the tokenizer's and the end ids' readers.
constexpr std::string_view kReadKeys[] = {"model_type",           "num_hidden_layers",
                                          "hidden_size",          "num_attention_heads",
                                          "num_key_value_heads",  "intermediate_size",
                                          "vocab_size",           "max_position_embeddings",
                                          "rms_norm_eps",         "head_dim",
                                          "rope_theta",           "rope_scaling",
                                          "rope_parameters",      "tie_word_embeddings",
                                          "eos_token_id",         "architectures",
                                          "attention_multiplier", "layer_types"};

constexpr std::string_view kNoBias = "no product has a bias";
constexpr std::string_view kNotScaled = "neither the residual nor logits are scaled";
constexpr std::string_view kNotCapped = "no logits are capped";
constexpr std::string_view kFullAttention = "each position sees all before it";
constexpr std::string_view kOneMlp = "each layer has one MLP";
constexpr std::string_view kFloats = "the weights are floats as they are";
constexpr std::string_view kTraining = "only training uses it";
constexpr std::string_view kDefaults = "how tokens are chosen is the request's to say";
constexpr std::string_view kTokenizerSays = "the tokenizer's files say it";
constexpr std::string_view kHistory = "it says where the files come from";
constexpr std::string_view kReturnsMore = "it only adds to what a call returns";

constexpr IdleKey kIdleKeys[] = {
    {"hidden_act", R"(["silu", "swish"])", "the MLP's gate is silu"},
    {"attention_bias", "[false]", kNoBias},
    {"qkv_bias", "[false]", kNoBias},
    {"mlp_bias", "[false]", kNoBias},
    {"use_bias", "[false]", kNoBias},
    {"bias", "[false]", kNoBias},
    {"lm_head_bias", "[false]", kNoBias},
    {"rope_interleaved", "[false]", "folders rotate the halves of a head"},
    {"partial_rotary_factor", "[1]", "whole heads are rotated"},
    {"rotary_pct", "[1]", "whole heads are rotated"},
    {"no_rope_layers", "[[]]", "all layers rotate"},
    {"use_qk_norm", "[false]", "queries and keys have no norm"},
    {"qk_layernorm", "[false]", "queries and keys have no norm"},
    {"sliding_window", "[0]", kFullAttention},
    {"use_sliding_window", "[false]", kFullAttention},
    {"attention_chunk_size", "[0]", kFullAttention},
    {"max_window_layers", "", "it says which layers have a sliding_window, and none has"},
    {"num_local_experts", "[0]", kOneMlp},
    {"num_experts", "[0]", kOneMlp},
    {"n_routed_experts", "[0]", kOneMlp},
    {"num_experts_per_tok", "", "it counts among experts, and there are none"},
    {"embedding_multiplier", "[1]", kNotScaled},
    {"residual_multiplier", "[1]", kNotScaled},
    {"logits_scaling", "[1]", kNotScaled},
    {"logit_scale", "[1]", kNotScaled},
    {"scale_emb", "[1]", kNotScaled},
    {"scale_depth", "[1]", kNotScaled},
    {"attn_logit_softcapping", "[null]", kNotCapped},
    {"final_logit_softcapping", "[null]", kNotCapped},
    {"clip_qkv", "[null]", "queries, keys and values are not clipped"},
    {"quantization_config", "[{}]", kFloats},
    {"compression_config", "[{}]", kFloats},
    {"torch_dtype", R"(["float32", "float16", "bfloat16"])", kFloats},
    {"dtype", R"(["float32", "float16", "bfloat16"])", kFloats},
    {"is_encoder_decoder", "[false]", "there is no encoder"},
    {"add_cross_attention", "[false]", "there is no encoder"},
    {"pruned_heads", "[{}]", "all heads are there"},
    {"pretraining_tp", "", "products in slices, the same but for rounding"},
    {"chunk_size_feed_forward", "", "products in slices, the same but for rounding"},
    {"original_max_position_embeddings", "", "of a scaling of rope that is refused elsewhere"},
    {"is_decoder", "", "without cross attention it changes nothing"},
    {"use_cache", "", "a cache changes no answer"},
    {"cache_implementation", "", "a cache changes no answer"},
    {"attn_implementation", "", "which code computes the same"},
    {"_attn_implementation", "", "which code computes the same"},
    {"_attn_implementation_autoset", "", "which code computes the same"},
    {"_flash_attn_2_enabled", "", "which code computes the same"},
    {"attention_dropout", "", kTraining},
    {"hidden_dropout", "", kTraining},
    {"resid_pdrop", "", kTraining},
    {"embd_pdrop", "", kTraining},
    {"attn_pdrop", "", kTraining},
    {"initializer_range", "", kTraining},
    {"gradient_checkpointing", "", kTraining},
    {"tie_encoder_decoder", "", "there is no encoder"},
    {"problem_type", "", kTraining},
    {"finetuning_task", "", kTraining},
    {"do_sample", "", kDefaults},
    {"temperature", "", kDefaults},
    {"top_k", "", kDefaults},
    {"top_p", "", kDefaults},
    {"typical_p", "", kDefaults},
    {"repetition_penalty", "", kDefaults},
    {"length_penalty", "", kDefaults},
    {"num_beams", "", kDefaults},
    {"max_length", "", kDefaults},
    {"min_length", "", kDefaults},
    {"task_specific_params", "", kDefaults},
    {"bos_token_id", "", kTokenizerSays},
    {"tokenizer_class", "", kTokenizerSays},
    {"pad_token_id", "", "sequences are not padded"},
    {"unk_token_id", "", kTokenizerSays},
    {"auto_map", "", "code for other programs; the family is model_type's"},
    {"_name_or_path", "", kHistory},
    {"transformers_version", "", kHistory},
    {"transformers.js_config", "", "it says how another program loads the files"},
    {"unsloth_version", "", kHistory},
    {"unsloth_fixed", "", kHistory},
    {"id2label", "", "of classifiers"},
    {"label2id", "", "of classifiers"},
    {"return_dict", "", kReturnsMore},
    {"output_attentions", "", kReturnsMore},
    {"output_hidden_states", "", kReturnsMore},
    {"torchscript", "", kReturnsMore},
};

[[noreturn]] void RefuseSetting(const std::string& where, std::string_view key,
                                const std::string& value, std::string_view supported) {
  Refuse(where, Quoted(key), " is ", Quoted(value), ", supported is only ", supported,
         kTakeAnother);
}

// Lists that must hold nothing but `supported`; null counts as absent.
void CheckAll(const json& config, const char* key, std::string_view supported,
              const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return;
  const bool fits =
      found->is_array() && std::all_of(found->begin(), found->end(),
                                       [&](const json& item) { return item == supported; });
  if (!fits) {
    RefuseSetting(where, key, found->dump(-1, ' ', true, json::error_handler_t::replace),
                  Str("a list of ", supported));
  }
}

const Family& FamilyOf(const JsonFields& fields) {
  const std::string type = fields.TryString("model_type").value_or("(missing)");
  const Family* family = FindFamily(type);
  if (family == nullptr) {
    Refuse(fields.where(), "the model type ", Quoted(type), " is not supported, only ",
           FamilyNames(), " is: take a model of that family");
  }
  return *family;
}

void CheckUnsupported(const json& config, const Family& family, const JsonFields& fields) {
  CheckAll(config, "architectures", family.hugging_face, fields.where());
  CheckAll(config, "layer_types", "full_attention", fields.where());
  CheckIdleKeys(config, kIdleKeys, fields.where());
}

// What attention's scores are multiplied by is not a setting here.
void CheckAttentionScale(const JsonFields& fields, int64_t head_dim) {
  const double usual = 1 / std::sqrt(static_cast<double>(head_dim));
  const double scale = fields.TryNumber("attention_multiplier").value_or(usual);
  if (std::fabs(scale - usual) > 1e-6 * usual) {
    RefuseSetting(fields.where(), "attention_multiplier", Str(scale),
                  Str("1 / sqrt(head_dim), which is ", usual));
  }
}

Llama3RopeScaling ReadLlama3(const JsonFields& fields) {
  Llama3RopeScaling scaling;
  scaling.factor = fields.Number("factor");
  scaling.low_freq_factor = fields.Number("low_freq_factor");
  scaling.high_freq_factor = fields.Number("high_freq_factor");
  scaling.original_context_tokens = fields.Count("original_max_position_embeddings");
  if (!(scaling.factor >= 1) || !(scaling.low_freq_factor > 0) ||
      !(scaling.high_freq_factor > scaling.low_freq_factor) ||
      scaling.original_context_tokens < 1) {
    Refuse(fields.where(),
           "llama3 rope scaling needs factor >= 1, 0 < low_freq_factor < high_freq_factor and "
           "original_max_position_embeddings >= 1: correct them");
  }
  return scaling;
}

// The scaling's type under its newer and its older name.
std::string RopeType(const JsonFields& scaling) {
  const std::optional<std::string> type = scaling.TryString("rope_type");
  const std::optional<std::string> older = scaling.TryString("type");
  if (type && older && *type != *older) {
    Refuse(scaling.where(), "rope_type is ", Quoted(*type), " and type, its older name, ",
           Quoted(*older), ": remove the wrong one");
  }
  return type ? *type : older.value_or("default");
}

void ReadScaling(const JsonFields& scaling, RopeConfig& rope) {
  const std::string type = RopeType(scaling);
  if (type == "llama3") {
    rope.llama3 = ReadLlama3(scaling);
  } else if (type == "linear") {
    rope.linear_factor = scaling.Number("factor");
  } else if (type != "default") {
    RefuseSetting(scaling.where(), "rope_type", type, "default, linear and llama3");
  } else if (scaling.TryNumber("factor").value_or(1) != 1) {
    // Readers disagree on what such a factor does.
    Refuse(scaling.where(), "there is a factor of ", scaling.Number("factor"),
           " without a rope_type that uses one; supported are linear and llama3: name the type, or "
           "remove the factor");
  }
}

constexpr IdleKey kIdleRopeKeys[] = {
    {"partial_rotary_factor", "[1]", "whole heads are rotated"},
    {"attention_factor", "[1]", "cosines and sines are not scaled"},
};

void ReadRope(const JsonFields& fields, RopeConfig& rope) {
  rope.layout = RopeLayout::kHalfSplit;
  const std::optional<double> old_theta = fields.TryNumber("rope_theta");
  rope.theta = old_theta.value_or(10000);
  const json* newer = fields.TryObject("rope_parameters");
  const json* older = fields.TryObject("rope_scaling");
  if (newer != nullptr && older != nullptr && *newer != *older) {
    Refuse(fields.where(),
           "rope_parameters and rope_scaling, its older name, differ: remove the wrong one");
  }
  if (newer == nullptr && older == nullptr) return;
  const json& object = newer != nullptr ? *newer : *older;
  const std::string within =
      Str(fields.where(), ", ", newer != nullptr ? "rope_parameters" : "rope_scaling");
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) {
      RefuseSetting(within, key, "an object", "one setting for all layers");
    }
  }
  CheckIdleKeys(object, kIdleRopeKeys, within);
  const JsonFields scaling(object, within);
  const std::optional<double> theta = scaling.TryNumber("rope_theta");
  if (theta && old_theta && *theta != *old_theta) {
    Refuse(within, "rope_theta is ", *theta, " here and ", *old_theta,
           " beside it: remove the wrong one");
  }
  rope.theta = theta.value_or(rope.theta);
  ReadScaling(scaling, rope);
}

}  // namespace

HfConfig ReadHfConfig(const json& config, const std::string& where) {
  const JsonFields fields(config, where);
  const Family& family = FamilyOf(fields);
  CheckUnsupported(config, family, fields);
  HfConfig result;
  ModelConfig& model = result.model;
  model.family = family.name;
  model.layer_count = fields.Count("num_hidden_layers");
  model.hidden_dim = fields.Count("hidden_size");
  model.head_count = fields.Count("num_attention_heads");
  model.kv_head_count = fields.TryCount("num_key_value_heads").value_or(model.head_count);
  model.ffn_dims = fields.Counts("intermediate_size", model.layer_count);
  model.vocab_size = fields.Count("vocab_size");
  model.context_tokens = fields.Count("max_position_embeddings");
  model.norm_epsilon = static_cast<float>(fields.Number("rms_norm_eps"));
  const std::optional<int64_t> head_dim = fields.TryCount("head_dim");
  if (!head_dim && (model.head_count == 0 || model.hidden_dim % model.head_count != 0)) {
    Refuse(where, "hidden_size ", model.hidden_dim, " is no multiple of num_attention_heads ",
           model.head_count, " and head_dim is missing: correct them");
  }
  model.head_dim = head_dim ? *head_dim : model.hidden_dim / model.head_count;
  CheckAttentionScale(fields, model.head_dim);
  ReadRope(fields, model.rope);
  result.tied =
      fields.TryBool("tie_word_embeddings").value_or(false) ? TiedOutput::kYes : TiedOutput::kNo;
  CheckConfig(model, where);
  return result;
}

std::vector<std::string> UnknownHfKeys(const json& config) {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : config.items()) {
    const bool is_read =
        std::find(std::begin(kReadKeys), std::end(kReadKeys), key) != std::end(kReadKeys);
    if (!is_read && FindIdleKey(kIdleKeys, key) == nullptr) unknown.push_back(key);
  }
  return unknown;
}

}  // namespace shoal::model
