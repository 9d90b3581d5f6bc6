#include "parallel/model/hf_config.h"

#include <string_view>

#include "parallel/model/json_fields.h"
#include "parallel/model/refuse.h"

// config.json to ModelConfig.

namespace shoal::model {
namespace {

using nlohmann::json;

constexpr std::string_view kTakeAnother = ": take another model";

[[noreturn]] void RefuseSetting(const std::string& where, std::string_view key,
                                const std::string& value, std::string_view supported) {
  Refuse(where, Quoted(key), " is ", Quoted(value), ", supported is only ", supported,
         kTakeAnother);
}

void CheckUnsupported(const JsonFields& fields) {
  const std::string type = fields.TryString("model_type").value_or("(missing)");
  if (type != "llama") {
    Refuse(fields.where(), "the model type ", Quoted(type),
           " is not supported, only \"llama\" is: take a model of that family");
  }
  for (const char* key : {"attention_bias", "mlp_bias", "rope_interleaved"}) {
    if (fields.TryBool(key).value_or(false)) {
      RefuseSetting(fields.where(), key, "true", "false");
    }
  }
  const std::string activation = fields.TryString("hidden_act").value_or("silu");
  if (activation != "silu") {
    RefuseSetting(fields.where(), "hidden_act", activation, "silu");
  }
  for (const char* key : {"quantization_config", "compression_config", "sliding_window",
                          "num_local_experts", "num_experts", "layer_types"}) {
    if (fields.Has(key)) {
      Refuse(fields.where(), "the key ", Quoted(key), " asks for something that is not supported",
             kTakeAnother);
    }
  }
  for (const char* key : {"partial_rotary_factor", "embedding_multiplier", "residual_multiplier",
                          "logits_scaling", "attention_multiplier"}) {
    const double value = fields.TryNumber(key).value_or(1);
    if (value != 1) {
      RefuseSetting(fields.where(), key, Str(value), "1");
    }
  }
  for (const char* key : {"dtype", "torch_dtype"}) {
    const std::string dtype = fields.TryString(key).value_or("float32");
    if (dtype != "float32" && dtype != "float16" && dtype != "bfloat16") {
      RefuseSetting(fields.where(), key, dtype, "float32, float16 and bfloat16");
    }
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

void ReadRope(const JsonFields& fields, RopeConfig& rope) {
  rope.layout = RopeLayout::kHalfSplit;
  const std::optional<double> old_theta = fields.TryNumber("rope_theta");
  rope.theta = old_theta.value_or(10000);
  // rope_scaling is the older name, and `type` the oldest name of rope_type.
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* object = fields.TryObject(key);
    if (object == nullptr) {
      continue;
    }
    const std::string within = Str(fields.where(), ", ", key);
    const JsonFields inner(*object, within);
    const std::optional<double> theta = inner.TryNumber("rope_theta");
    if (theta && old_theta && *theta != *old_theta) {
      Refuse(within, "rope_theta is ", *theta, " here and ", *old_theta,
             " beside it: remove the wrong one");
    }
    rope.theta = theta.value_or(rope.theta);
    if (inner.TryNumber("partial_rotary_factor").value_or(1) != 1) {
      RefuseSetting(within, "partial_rotary_factor", Str(*inner.TryNumber("partial_rotary_factor")),
                    "1");
    }
    const std::optional<std::string> type = inner.TryString("rope_type");
    const std::string name = type ? *type : inner.TryString("type").value_or("default");
    if (name == "llama3") {
      rope.llama3 = ReadLlama3(inner);
    } else if (name != "default") {
      RefuseSetting(within, "rope_type", name, "default and llama3");
    }
  }
}

// One id or a list of them; null counts as absent.
void ReadEos(const json& object, const std::string& where, std::vector<int32_t>& ids) {
  const auto found = object.find("eos_token_id");
  if (found == object.end() || found->is_null()) {
    return;
  }
  const json list = found->is_array() ? *found : json::array({*found});
  ids.clear();
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      Refuse(where, "\"eos_token_id\" must be a token id or a list of them: correct it");
    }
    ids.push_back(id.get<int32_t>());
  }
}

}  // namespace

HfConfig ReadHfConfig(const json& config, const json& generation, const std::string& where) {
  const JsonFields fields(config, where);
  CheckUnsupported(fields);
  HfConfig result;
  ModelConfig& model = result.model;
  model.family = "llama";
  model.layer_count = fields.Count("num_hidden_layers");
  model.hidden_dim = fields.Count("hidden_size");
  model.head_count = fields.Count("num_attention_heads");
  model.kv_head_count = fields.TryCount("num_key_value_heads").value_or(model.head_count);
  model.ffn_dim = fields.Count("intermediate_size");
  model.vocab_size = fields.Count("vocab_size");
  model.context_tokens = fields.Count("max_position_embeddings");
  model.norm_epsilon = static_cast<float>(fields.Number("rms_norm_eps"));
  const std::optional<int64_t> head_dim = fields.TryCount("head_dim");
  if (!head_dim && (model.head_count == 0 || model.hidden_dim % model.head_count != 0)) {
    Refuse(where, "hidden_size ", model.hidden_dim, " is no multiple of num_attention_heads ",
           model.head_count, " and head_dim is missing: correct them");
  }
  model.head_dim = head_dim ? *head_dim : model.hidden_dim / model.head_count;
  ReadRope(fields, model.rope);
  ReadEos(config, where, model.eos_ids);
  if (generation.is_object()) {
    ReadEos(generation, where + ", generation_config.json", model.eos_ids);
  }
  result.tied =
      fields.TryBool("tie_word_embeddings").value_or(false) ? TiedOutput::kYes : TiedOutput::kNo;
  CheckConfig(model, where);
  return result;
}

}  // namespace shoal::model
