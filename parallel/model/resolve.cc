#include "parallel/model/resolve.h"

#include <cmath>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "parallel/model/files/mapped_file.h"
#include "parallel/model/files/refuse.h"

// The tables of names and shapes, held against what a file has.

namespace shoal::model {
namespace {

constexpr TensorNames kEmbedding = {"token_embd.weight", "model.embed_tokens.weight"};
constexpr TensorNames kOutputNorm = {"output_norm.weight", "model.norm.weight"};
constexpr TensorNames kOutput = {"output.weight", "lm_head.weight"};

class Resolver {
 public:
  Resolver(std::span<const Tensor> tensors, NameScheme scheme, const std::string& where,
           std::vector<std::string>& notes)
      : gguf_(scheme == NameScheme::kGguf), where_(where), notes_(notes) {
    for (const Tensor& tensor : tensors) {
      unused_.emplace(tensor.name, &tensor);
    }
  }

  ModelTensors Resolve(TiedOutput tied, ModelConfig& config) {
    const Family* family = FindFamily(config.family);
    SHOAL_CHECK(family != nullptr, "family ", config.family);
    ModelTensors found;
    found.token_embedding = Take(NameOf(kEmbedding));
    config.vocab_size = found.token_embedding->rows;
    CheckShape(*found.token_embedding, config.vocab_size, config.hidden_dim);
    // One by one, so that an absurd layer count meets a missing tensor before it costs memory.
    for (int64_t layer = 0; layer < config.layer_count; ++layer) {
      found.layers.push_back(ResolveLayer(layer, *family, config));
    }
    found.output_norm = Take(NameOf(kOutputNorm));
    CheckNorm(*found.output_norm, config.hidden_dim);
    found.output = ResolveOutput(tied, *found.token_embedding);
    CheckShape(*found.output, config.vocab_size, config.hidden_dim);
    if (gguf_) {
      ReadFrequencyDivisors(config);
    } else {
      found.stored_frequencies = TakeStoredFrequencies(config);
    }
    CheckNothingLeft(*family);
    return found;
  }

 private:
  std::string NameOf(const TensorNames& names) const {
    return std::string(gguf_ ? names.gguf : names.hugging_face);
  }

  const Tensor* TryTake(const std::string& name) {
    const auto found = unused_.find(name);
    if (found == unused_.end()) {
      return nullptr;
    }
    const Tensor* tensor = found->second;
    unused_.erase(found);
    return tensor;
  }

  const Tensor* Take(const std::string& name) {
    const Tensor* tensor = TryTake(name);
    if (tensor == nullptr) {
      Refuse(where_, "the tensor ", Quoted(name),
             " is missing: take a complete model, or convert this one again");
    }
    return tensor;
  }

  void CheckShape(const Tensor& tensor, int64_t rows, int64_t cols) const {
    if (tensor.rows != rows || tensor.cols != cols) {
      Refuse(where_, "the tensor ", Quoted(tensor.name), " has ", tensor.rows, " rows of ",
             tensor.cols, ", the configuration implies ", rows, " rows of ", cols,
             ": the files do not belong together, fetch or convert the model again");
    }
  }

  void CheckNorm(const Tensor& tensor, int64_t cols) const {
    CheckShape(tensor, 1, cols);
    if (IsQuantized(tensor.dtype)) {
      Refuse(where_, "the norm ", Quoted(tensor.name), " is ", ToString(tensor.dtype),
             ", expected F32, F16 or BF16: convert the model again");
    }
  }

  LayerTensors ResolveLayer(int64_t layer, const Family& family, const ModelConfig& config) {
    const std::string prefix = (gguf_ ? "blk." : "model.layers.") + std::to_string(layer) + ".";
    LayerTensors found = {.spec = family.layer(config, layer)};
    for (const TensorSpec& spec : found.spec.tensors) {
      const Tensor* tensor = Take(prefix + NameOf(spec.names));
      spec.is_norm() ? CheckNorm(*tensor, spec.cols) : CheckShape(*tensor, spec.rows, spec.cols);
      found.by_role[static_cast<size_t>(spec.role)] = tensor;
    }
    return found;
  }

  const Tensor* ResolveOutput(TiedOutput tied, const Tensor& embedding) {
    const std::string name = NameOf(kOutput);
    if (tied == TiedOutput::kNo) {
      return Take(name);
    }
    const Tensor* output = TryTake(name);
    if (output == nullptr) return &embedding;
    if (tied == TiedOutput::kIfAbsent) return output;
    // Of two that differ, some readers use one and some the other.
    if (!HoldTheSame(*output, embedding)) {
      Refuse(where_, "tie_word_embeddings is true, but there is a tensor ", Quoted(name),
             " that differs from the embedding: set it to false to use the tensor, or remove the "
             "tensor");
    }
    notes_.push_back(Str("the tensor ", Quoted(name), " repeats the embedding and is not used"));
    return &embedding;
  }

  static bool HoldTheSame(const Tensor& a, const Tensor& b) {
    if (a.dtype != b.dtype || a.rows != b.rows || a.cols != b.cols) return false;
    const bool same = std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0;
    for (const Tensor* tensor : {&a, &b}) {
      ReleasePages({tensor->data, static_cast<size_t>(tensor->bytes())});
    }
    return same;
  }

  std::vector<const Tensor*> TakeStoredFrequencies(const ModelConfig& config) {
    std::vector<const Tensor*> found;
    const auto take = [&](const std::string& name) {
      const Tensor* tensor = TryTake(name);
      if (tensor == nullptr) return;
      CheckShape(*tensor, 1, config.head_dim / 2);
      found.push_back(tensor);
    };
    take("model.rotary_emb.inv_freq");
    for (int64_t layer = 0; layer < config.layer_count; ++layer) {
      take(Str("model.layers.", layer, ".self_attn.rotary_emb.inv_freq"));
    }
    if (!found.empty()) {
      notes_.push_back(Str(found.size(),
                           " tensors rotary_emb.inv_freq are not used, the "
                           "configuration says the frequencies"));
    }
    return found;
  }

  void ReadFrequencyDivisors(ModelConfig& config) {
    const Tensor* divisors = TryTake("rope_freqs.weight");
    if (divisors == nullptr) {
      return;
    }
    CheckShape(*divisors, 1, config.head_dim / 2);
    if (divisors->dtype != DType::kF32) {
      Refuse(where_, "the tensor \"rope_freqs.weight\" is ", ToString(divisors->dtype),
             ", expected F32: convert the model again");
    }
    config.rope.frequency_divisors.resize(static_cast<size_t>(divisors->cols));
    std::memcpy(config.rope.frequency_divisors.data(), divisors->data,
                static_cast<size_t>(divisors->bytes()));
    for (const float divisor : config.rope.frequency_divisors) {
      if (!std::isfinite(divisor) || !(divisor > 0)) {
        Refuse(where_, "the tensor \"rope_freqs.weight\" holds ", divisor,
               ", expected positive numbers: the file is damaged, fetch it again");
      }
    }
  }

  void CheckNothingLeft(const Family& family) const {
    if (unused_.empty()) {
      return;
    }
    // The first in file order, so that the message does not depend on hashing.
    const Tensor* first = unused_.begin()->second;
    for (const auto& [name, tensor] : unused_) {
      first = tensor < first ? tensor : first;
    }
    Refuse(where_, "the tensor ", Quoted(first->name), " (one of ", unused_.size(),
           ") has no place in a ", family.name,
           " model without biases, and ignoring it would change the answers: take another model");
  }

  const bool gguf_;
  const std::string& where_;
  std::vector<std::string>& notes_;
  std::unordered_map<std::string_view, const Tensor*> unused_;
};

}  // namespace

std::vector<NamedTensor> GgufTensors(const ModelTensors& tensors) {
  std::vector<NamedTensor> named = {{std::string(kEmbedding.gguf), tensors.token_embedding}};
  for (size_t i = 0; i < tensors.layers.size(); ++i) {
    const LayerTensors& layer = tensors.layers[i];
    for (const TensorSpec& spec : layer.spec.tensors) {
      named.push_back({Str("blk.", i, ".", spec.names.gguf), &layer[spec.role],
                       static_cast<int64_t>(i), &spec});
    }
  }
  named.push_back({std::string(kOutputNorm.gguf), tensors.output_norm});
  if (tensors.output != tensors.token_embedding) {
    named.push_back({std::string(kOutput.gguf), tensors.output});
  }
  return named;
}

ModelTensors ResolveTensors(std::span<const Tensor> tensors, NameScheme scheme, TiedOutput tied,
                            ModelConfig& config, const std::string& where,
                            std::vector<std::string>& notes) {
  ModelTensors found = Resolver(tensors, scheme, where, notes).Resolve(tied, config);
  CheckConfig(config, where);
  return found;
}

}  // namespace shoal::model
