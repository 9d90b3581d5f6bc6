#include "parallel/model/families/llama.h"

// The table of a llama layer.

#include <vector>

namespace shoal::model {
namespace {

std::vector<TensorSpec> AttentionTensors(const ModelConfig& config) {
  const int64_t hidden_dim = config.hidden_dim;
  const int64_t head_dim = config.head_dim;
  const int64_t query_dim = config.head_count * head_dim;
  const int64_t kv_dim = config.kv_head_count * head_dim;
  return {{.role = TensorRole::kAttentionNorm,
           .names = {"attn_norm.weight", "input_layernorm.weight"},
           .cols = hidden_dim,
           .scales = LayerInput::kAttention},
          {.role = TensorRole::kQuery,
           .names = {"attn_q.weight", "self_attn.q_proj.weight"},
           .rows = query_dim,
           .cols = hidden_dim,
           .cut = TensorCut::kColumnParallel,
           .unit = CutUnit::kHeads,
           .unit_size = head_dim,
           .reads = LayerInput::kAttention,
           .is_rotated = true},
          {.role = TensorRole::kKey,
           .names = {"attn_k.weight", "self_attn.k_proj.weight"},
           .rows = kv_dim,
           .cols = hidden_dim,
           .cut = TensorCut::kColumnParallel,
           .unit = CutUnit::kKvHeads,
           .unit_size = head_dim,
           .reads = LayerInput::kAttention,
           .is_rotated = true},
          {.role = TensorRole::kValue,
           .names = {"attn_v.weight", "self_attn.v_proj.weight"},
           .rows = kv_dim,
           .cols = hidden_dim,
           .cut = TensorCut::kColumnParallel,
           .unit = CutUnit::kKvHeads,
           .unit_size = head_dim,
           .reads = LayerInput::kAttention,
           .scales = LayerInput::kAttentionOutput},
          {.role = TensorRole::kAttentionOutput,
           .names = {"attn_output.weight", "self_attn.o_proj.weight"},
           .rows = hidden_dim,
           .cols = query_dim,
           .cut = TensorCut::kRowParallel,
           .unit = CutUnit::kHeads,
           .unit_size = head_dim,
           .reads = LayerInput::kAttentionOutput}};
}

std::vector<TensorSpec> MlpTensors(int64_t hidden_dim, int64_t ffn_dim) {
  return {{.role = TensorRole::kMlpNorm,
           .names = {"ffn_norm.weight", "post_attention_layernorm.weight"},
           .cols = hidden_dim,
           .scales = LayerInput::kMlp},
          {.role = TensorRole::kGate,
           .names = {"ffn_gate.weight", "mlp.gate_proj.weight"},
           .rows = ffn_dim,
           .cols = hidden_dim,
           .cut = TensorCut::kColumnParallel,
           .unit = CutUnit::kMlpColumns,
           .reads = LayerInput::kMlp},
          {.role = TensorRole::kUp,
           .names = {"ffn_up.weight", "mlp.up_proj.weight"},
           .rows = ffn_dim,
           .cols = hidden_dim,
           .cut = TensorCut::kColumnParallel,
           .unit = CutUnit::kMlpColumns,
           .reads = LayerInput::kMlp,
           .scales = LayerInput::kDown},
          {.role = TensorRole::kDown,
           .names = {"ffn_down.weight", "mlp.down_proj.weight"},
           .rows = hidden_dim,
           .cols = ffn_dim,
           .cut = TensorCut::kRowParallel,
           .unit = CutUnit::kMlpColumns,
           .reads = LayerInput::kDown}};
}

}  // namespace

LayerSpec LlamaLayer(const ModelConfig& config, int64_t layer) {
  LayerSpec spec = {.kv = {.key = config.head_dim, .value = config.head_dim},
                    .tensors = AttentionTensors(config)};
  for (TensorSpec& tensor : MlpTensors(config.hidden_dim, config.ffn_dim(layer))) {
    spec.tensors.push_back(tensor);
  }
  return spec;
}

}  // namespace shoal::model
