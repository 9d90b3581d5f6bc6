#include "worker/forward/numerics.h"

#include <xxhash.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cpu/table.h"
#include "kernels/format/pack.h"
#include "kernels/math/rope_table.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::forward {
namespace {

constexpr int kContractVersion = 1;

std::string Hex(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

// The weight formats of the model, as "F32 Q4_1 ...", in the order of DType, and how activations
// are quantised where it is not in the weights' groups.
std::string Formats(const model::ModelTensors& tensors) {
  std::array<bool, kDTypeCount> used = {};
  const auto note = [&](const model::Tensor& tensor) {
    used[static_cast<size_t>(tensor.dtype)] = true;
  };
  note(*tensors.token_embedding);
  note(*tensors.output);
  for (const model::LayerTensors& layer : tensors.layers) {
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      if (!tensor.is_norm()) note(layer[tensor.role]);
    }
  }
  std::string names;
  for (int dtype = 0; dtype < kDTypeCount; ++dtype) {
    const auto format = static_cast<DType>(dtype);
    if (!used[dtype]) continue;
    names += Str(names.empty() ? "" : " ", ToString(format));
    if (QuantizesWholeRows(format)) names += " by rows";
  }
  return names;
}

}  // namespace

std::vector<double> ModelRopeFrequencies(const model::ModelConfig& config) {
  std::vector<double> frequencies = math::RopeFrequencies(config.rope.theta, config.head_dim);
  if (config.rope.llama3) {
    const model::Llama3RopeScaling& scaling = *config.rope.llama3;
    math::ApplyLlama3Scaling(scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor,
                             scaling.original_context_tokens, frequencies);
  }
  for (size_t j = 0; j < config.rope.frequency_divisors.size(); ++j) {
    frequencies[j] /= double{config.rope.frequency_divisors[j]};
  }
  if (config.rope.linear_factor != 1) {
    for (double& frequency : frequencies) frequency /= config.rope.linear_factor;
  }
  return frequencies;
}

void CheckStoredFrequencies(const model::Model& model, std::span<const double> frequencies) {
  const double factor = model.config().rope.linear_factor;
  for (const model::Tensor* tensor : model.tensors().stored_frequencies) {
    // Of the f32 arithmetic that made them, and of the half-precision number that holds them.
    const double relative = tensor->dtype == DType::kF32   ? 1e-5
                            : tensor->dtype == DType::kF16 ? 0x1p-10
                                                           : 0x1p-8;
    const double absolute = tensor->dtype == DType::kF16 ? 0x1p-24 : 0;  // The smallest f16.
    std::vector<float> stored(static_cast<size_t>(tensor->cols));
    DequantizeRow(tensor->dtype, tensor->data, tensor->cols, stored.data());
    for (size_t j = 0; j < stored.size(); ++j) {
      const auto fits = [&](double frequency) {
        return std::fabs(double{stored[j]} - frequency) <= relative * frequency + absolute;
      };
      if (fits(frequencies[j]) || fits(frequencies[j] * factor)) continue;
      Throw(ErrorCode::kInvalidArgument, model.path(), ": tensor \"", tensor->name,
            "\" holds the rope frequency ", stored[j], " at ", j, ", the configuration says ",
            frequencies[j], ": correct rope_theta or rope_scaling, or remove the tensor");
    }
  }
}

model::WeightDigest SumOverRanks(const model::WeightDigest& part, comm::Communicator& group) {
  // Four limbs of 32 bits: their sums over at most 2^31 ranks cannot overflow 63 bits.
  std::array<int64_t, 4> limbs = {
      static_cast<int64_t>(part.low() & 0xffffffffu), static_cast<int64_t>(part.low() >> 32),
      static_cast<int64_t>(part.high() & 0xffffffffu), static_cast<int64_t>(part.high() >> 32)};
  group.AllReduceSum(limbs);
  uint64_t words[4];
  uint64_t carry = 0;
  for (int i = 0; i < 4; ++i) {
    const uint64_t sum = static_cast<uint64_t>(limbs[i]) + carry;
    words[i] = sum & 0xffffffffu;
    carry = sum >> 32;
  }
  return {words[2] | words[3] << 32, words[0] | words[1] << 32};
}

std::string NumericsId(const model::Model& model, const model::WeightDigest& weights,
                       KvDType kv_dtype, std::span<const double> rope_frequencies,
                       Numerics numerics, int32_t tensor_parallel) {
  const model::ModelConfig& config = model.config();
  std::vector<double> rope(rope_frequencies.begin(), rope_frequencies.end());
  rope.push_back(kRopeGain);
  const bool adjacent = config.rope.layout == model::RopeLayout::kAdjacentPairs;
  const std::string line =
      Str("shoal numerics ", kContractVersion, "; weights ", weights.Hex(), "; formats ",
          Formats(model.tensors()), "; heads ", config.head_count, " ", config.kv_head_count,
          " of ", config.head_dim, "; epsilon ", std::bit_cast<uint32_t>(config.norm_epsilon),
          "; leaves ", model.leaves().heads_per_leaf, " heads ", model.leaves().mlp_leaf_width,
          " columns; segments ", cpu::kSegmentKeys, " ", cpu::kSpanKeys, "; kv ",
          ToString(kv_dtype), "; rope ", adjacent ? "adjacent " : "halves ",
          Hex(XXH3_128bits(rope.data(), rope.size() * sizeof(double))),
          numerics == Numerics::kExact ? "; exact" : Str("; fast over ", tensor_parallel));
  return Hex(XXH3_128bits(line.data(), line.size()));
}

}  // namespace shoal::forward
