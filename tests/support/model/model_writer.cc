#include "tests/support/model/model_writer.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/model/random_weights.h"
#include "tests/support/model/tiny_tokenizer.h"
#include "transport/base/error.h"

// Names, shapes and metadata of the generated models, in both containers.

namespace shoal::test {
namespace {

constexpr float kNormEpsilon = 1e-5F;

struct TensorSpec {
  std::string gguf_name;
  std::string folder_name;
  int64_t rows = 1;  // 1 and a gain of 0: a norm.
  int64_t cols = 0;
  DType dtype = DType::kF32;
  double gain = 0;  // Standard deviation of an output for inputs of 1.
};

std::vector<TensorSpec> TensorSpecs(const ModelSpec& spec) {
  const DType norm = spec.container == Container::kGguf ? DType::kF32 : spec.dtype;
  const DType embedding = spec.embedding_dtype.value_or(spec.dtype);
  const int64_t hidden = spec.hidden_dim;
  const int64_t query = spec.head_count * spec.head_dim;
  const int64_t kv = spec.kv_head_count * spec.head_dim;
  // A tied embedding must serve as the head, so its rows are as short as the head's; the first norm
  // makes up for it.
  const double head_gain = 2;
  const double embedding_gain = spec.tied ? head_gain : std::sqrt(static_cast<double>(hidden));
  std::vector<TensorSpec> tensors = {{"token_embd.weight", "model.embed_tokens.weight",
                                      spec.vocab_size, hidden, embedding, embedding_gain}};
  for (int64_t layer = 0; layer < spec.layer_count; ++layer) {
    const std::string gguf = "blk." + std::to_string(layer) + ".";
    const std::string folder = "model.layers." + std::to_string(layer) + ".";
    const int64_t ffn_dim = spec.ffn_dims.empty() ? spec.ffn_dim : spec.ffn_dims.at(layer);
    const auto add = [&](const char* gguf_name, const char* folder_name, int64_t rows, int64_t cols,
                         double gain) {
      const auto other = spec.dtypes.find(gguf_name);
      const DType dtype = other == spec.dtypes.end() ? spec.dtype : other->second;
      tensors.push_back(
          {gguf + gguf_name, folder + folder_name, rows, cols, gain == 0 ? norm : dtype, gain});
    };
    add("attn_norm.weight", "input_layernorm.weight", 1, hidden, 0);
    add("attn_q.weight", "self_attn.q_proj.weight", query, hidden, 1.2);
    add("attn_k.weight", "self_attn.k_proj.weight", kv, hidden, 1.2);
    add("attn_v.weight", "self_attn.v_proj.weight", kv, hidden, 1);
    add("attn_output.weight", "self_attn.o_proj.weight", hidden, query, 1);
    add("ffn_norm.weight", "post_attention_layernorm.weight", 1, hidden, 0);
    add("ffn_gate.weight", "mlp.gate_proj.weight", ffn_dim, hidden, 1);
    add("ffn_up.weight", "mlp.up_proj.weight", ffn_dim, hidden, 1);
    add("ffn_down.weight", "mlp.down_proj.weight", hidden, ffn_dim, 1);
  }
  tensors.push_back({"output_norm.weight", "model.norm.weight", 1, hidden, norm, 0});
  if (!spec.tied) {
    tensors.push_back(
        {"output.weight", "lm_head.weight", spec.vocab_size, hidden, embedding, head_gain});
  }
  return tensors;
}

std::string MakeData(const TensorSpec& tensor, uint64_t seed) {
  RandomWeights random(seed, tensor.gguf_name);
  if (tensor.gain == 0) {
    return random.Norm(tensor.dtype, tensor.cols);
  }
  return random.Matrix(tensor.dtype, tensor.rows, tensor.cols,
                       tensor.gain / std::sqrt(static_cast<double>(tensor.cols)));
}

uint32_t GgufType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 30;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kIQ4_NL:
      return 20;
    case DType::kQ4_G128:
    case DType::kQ8_G128:
    case DType::kINT8:
      return FactsOf(dtype).gguf_type;
  }
  return 0;
}

void AddArchitecture(const ModelSpec& spec, GgufFile& file) {
  const auto add = [&](const char* key, int64_t value) {
    file.keys.emplace_back(key, GgufUint32(static_cast<uint32_t>(value)));
  };
  file.keys.emplace_back("general.architecture", GgufString("llama"));
  file.keys.emplace_back("general.name", GgufString(spec.name));
  add("llama.block_count", spec.layer_count);
  add("llama.context_length", spec.context_tokens);
  add("llama.embedding_length", spec.hidden_dim);
  if (spec.ffn_dims.empty()) {
    add("llama.feed_forward_length", spec.ffn_dim);
  } else {
    file.keys.emplace_back("llama.feed_forward_length",
                           GgufInt32s({spec.ffn_dims.begin(), spec.ffn_dims.end()}));
  }
  add("llama.attention.head_count", spec.head_count);
  add("llama.attention.head_count_kv", spec.kv_head_count);
  add("llama.attention.key_length", spec.head_dim);
  add("llama.attention.value_length", spec.head_dim);
  add("llama.rope.dimension_count", spec.head_dim);
  add("llama.vocab_size", spec.vocab_size);
  file.keys.emplace_back("llama.rope.freq_base", GgufFloat32(static_cast<float>(spec.rope_theta)));
  file.keys.emplace_back("llama.attention.layer_norm_rms_epsilon", GgufFloat32(kNormEpsilon));
}

// Divisors as llama 3 models have: 1 for the high frequencies, 8 for the low ones, a ramp between.
std::string FrequencyDivisors(int64_t count) {
  std::string data;
  for (int64_t i = 0; i < count; ++i) {
    data += LittleEndian(2 * i < count ? 1.0F : 4 * i < 3 * count ? 3.5F : 8.0F);
  }
  return data;
}

}  // namespace

GgufFile MakeGgufFile(const ModelSpec& spec) {
  GgufFile file;
  AddArchitecture(spec, file);
  if (spec.tokenizer) {
    AddTinyTokenizer(spec.vocab_size, file);
  }
  for (const TensorSpec& tensor : TensorSpecs(spec)) {
    std::vector<uint64_t> dimensions = {static_cast<uint64_t>(tensor.cols)};
    if (tensor.gain != 0) {
      dimensions.push_back(static_cast<uint64_t>(tensor.rows));
    }
    file.tensors.push_back({tensor.gguf_name, std::move(dimensions), GgufType(tensor.dtype),
                            MakeData(tensor, spec.seed), std::nullopt});
  }
  if (spec.llama3_rope) {
    file.tensors.push_back({"rope_freqs.weight",
                            {static_cast<uint64_t>(spec.head_dim / 2)},
                            GgufType(DType::kF32),
                            FrequencyDivisors(spec.head_dim / 2),
                            std::nullopt});
  }
  return file;
}

std::vector<SafetensorsTensor> MakeSafetensorsTensors(const ModelSpec& spec) {
  std::vector<SafetensorsTensor> tensors;
  for (const TensorSpec& tensor : TensorSpecs(spec)) {
    std::vector<int64_t> shape = {tensor.cols};
    if (tensor.gain != 0) {
      shape.insert(shape.begin(), tensor.rows);
    }
    tensors.push_back({tensor.folder_name, std::string(ToString(tensor.dtype)), std::move(shape),
                       MakeData(tensor, spec.seed)});
  }
  return tensors;
}

std::string MakeConfigJson(const ModelSpec& spec) {
  nlohmann::ordered_json config;
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  config["hidden_act"] = "silu";
  config["attention_bias"] = false;
  config["mlp_bias"] = false;
  config["num_hidden_layers"] = spec.layer_count;
  config["hidden_size"] = spec.hidden_dim;
  config["num_attention_heads"] = spec.head_count;
  config["num_key_value_heads"] = spec.kv_head_count;
  config["head_dim"] = spec.head_dim;
  config["intermediate_size"] = spec.ffn_dim;
  if (!spec.ffn_dims.empty()) config["intermediate_size"] = spec.ffn_dims;
  config["vocab_size"] = spec.vocab_size;
  config["max_position_embeddings"] = spec.context_tokens;
  config["rms_norm_eps"] = 1e-5;
  config["rope_theta"] = spec.rope_theta;
  if (spec.llama3_rope) {
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 64}};
  }
  config["tie_word_embeddings"] = spec.tied;
  config["torch_dtype"] = spec.dtype == DType::kF32   ? "float32"
                          : spec.dtype == DType::kF16 ? "float16"
                                                      : "bfloat16";
  config["eos_token_id"] = spec.vocab_size - 1;
  return config.dump(2);
}

std::string WriteModel(const ModelSpec& spec, const std::string& folder) {
  const std::filesystem::path base = std::filesystem::path(folder) / spec.name;
  if (spec.container == Container::kGguf) {
    WriteFile(base.string() + ".gguf", MakeGgufFile(spec).Bytes());
    return base.string() + ".gguf";
  }
  SHOAL_CHECK(!IsQuantized(spec.dtype), "safetensors folders hold float weights");
  std::filesystem::create_directories(base);
  WriteFile((base / "config.json").string(), MakeConfigJson(spec));
  WriteFile((base / "model.safetensors").string(), SafetensorsBytes(MakeSafetensorsTensors(spec)));
  return base.string();
}

ModelSpec Q4_1Spec() {
  return {.name = "q4_1", .dtype = DType::kQ4_1, .embedding_dtype = DType::kQ8_0, .seed = 11};
}

ModelSpec Q4_0Spec() {
  return {.name = "q4_0", .dtype = DType::kQ4_0, .embedding_dtype = {}, .tied = true, .seed = 12};
}

ModelSpec Q8_0Spec() {
  return {.name = "q8_0", .dtype = DType::kQ8_0, .embedding_dtype = {}, .seed = 13};
}

ModelSpec F16Spec() {
  return {.name = "f16",
          .dtype = DType::kF16,
          .embedding_dtype = {},
          .hidden_dim = 160,
          .head_dim = 20,
          .ffn_dim = 576,
          .vocab_size = 576,
          .llama3_rope = true,
          .seed = 14};
}

ModelSpec Bf16FolderSpec() {
  return {.name = "bf16_folder",
          .container = Container::kSafetensors,
          .dtype = DType::kBF16,
          .embedding_dtype = {},
          .hidden_dim = 128,
          .kv_head_count = 2,
          .head_dim = 16,
          .ffn_dim = 520,
          .tied = true,
          .tokenizer = false,
          .seed = 15};
}

ModelSpec F32FolderSpec() {
  return {.name = "f32_folder",
          .container = Container::kSafetensors,
          .dtype = DType::kF32,
          .embedding_dtype = {},
          .hidden_dim = 128,
          .kv_head_count = 8,
          .head_dim = 16,
          .ffn_dim = 512,
          .rope_theta = 500000,
          .llama3_rope = true,
          .tokenizer = false,
          .seed = 16};
}

ModelSpec NineHeadsSpec() {
  return {.name = "nine_heads",
          .dtype = DType::kQ4_1,
          .embedding_dtype = DType::kF16,
          .hidden_dim = 288,
          .head_count = 9,
          .kv_head_count = 3,
          .ffn_dim = 1056,
          .vocab_size = 640,
          .tied = true,
          .seed = 17};
}

ModelSpec HeadDim80Spec() {
  return {.name = "head_dim_80",
          .dtype = DType::kQ4_0,
          .embedding_dtype = DType::kQ8_0,
          .hidden_dim = 320,
          .head_count = 16,
          .kv_head_count = 4,
          .head_dim = 80,
          .ffn_dim = 512,
          .vocab_size = 512,
          .seed = 18};
}

ModelSpec LongSpec() {
  return {.name = "long",
          .dtype = DType::kQ8_0,
          .embedding_dtype = {},
          .hidden_dim = 128,
          .head_count = 16,
          .kv_head_count = 4,
          .head_dim = 16,
          .ffn_dim = 512,
          .vocab_size = 512,
          .context_tokens = 520,
          .rope_theta = 100000,
          .seed = 19};
}

ModelSpec VeryLongSpec() {
  return {.name = "very_long",
          .dtype = DType::kF16,
          .embedding_dtype = {},
          .layer_count = 1,
          .hidden_dim = 32,
          .head_count = 2,
          .kv_head_count = 1,
          .head_dim = 16,
          .ffn_dim = 128,
          .vocab_size = 512,
          .context_tokens = 8448,
          .rope_theta = 500000,
          .seed = 20};
}

ModelSpec KQuantsSpec() {
  return {.name = "k_quants",
          .dtype = DType::kQ4_K,
          .embedding_dtype = DType::kQ6_K,
          .ffn_dim = 512,
          .tied = true,
          .seed = 21,
          .dtypes = {{"attn_k.weight", DType::kQ5_0},
                     {"attn_v.weight", DType::kQ6_K},
                     {"attn_output.weight", DType::kQ5_K},
                     {"ffn_gate.weight", DType::kIQ4_NL},
                     {"ffn_up.weight", DType::kQ5_1},
                     {"ffn_down.weight", DType::kQ6_K}}};
}

ModelSpec Llama1BSpec() {
  return {.name = "llama_1b_q4_0",
          .dtype = DType::kQ4_0,
          .embedding_dtype = {},
          .layer_count = 22,
          .hidden_dim = 2048,
          .head_count = 32,
          .kv_head_count = 4,
          .head_dim = 64,
          .ffn_dim = 5632,
          .vocab_size = 32000,
          .context_tokens = 2048,
          .seed = 22};
}

ModelSpec Int8Spec() {
  return {.name = "int8",
          .dtype = DType::kINT8,
          .embedding_dtype = {},
          .tied = true,
          .seed = 23,
          .dtypes = {{"attn_v.weight", DType::kQ8_G128},
                     {"ffn_gate.weight", DType::kQ4_G128},
                     {"ffn_up.weight", DType::kQ8_0}}};
}

ModelSpec GroupsOf128Spec() {
  return {.name = "groups_of_128",
          .dtype = DType::kQ4_G128,
          .embedding_dtype = DType::kQ8_G128,
          .head_count = 32,
          .seed = 24,
          .dtypes = {{"ffn_down.weight", DType::kQ8_G128}}};
}

std::vector<ModelSpec> MatrixSpecs() {
  return {Q4_1Spec(),       Q4_0Spec(),      Q8_0Spec(),      F16Spec(),
          Bf16FolderSpec(), F32FolderSpec(), NineHeadsSpec(), HeadDim80Spec(),
          LongSpec(),       VeryLongSpec(),  KQuantsSpec()};
}

}  // namespace shoal::test
