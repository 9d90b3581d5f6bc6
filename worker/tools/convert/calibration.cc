#include "worker/tools/convert/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kernels/format/pack.h"
#include "transport/base/error.h"
#include "worker/rank/group_setup.h"
#include "worker/tools/perplexity.h"

namespace shoal::rank {
namespace {

using model::LayerInput;

// How much of a channel's size moves into the weights: 0 none, 1 all of it.
constexpr double kMigration = 0.7;
constexpr int kExponentMax = 12;
constexpr int64_t kWindowTokens = 512;

std::vector<const model::Tensor*> ReadersOf(const model::LayerTensors& layer, LayerInput input) {
  std::vector<const model::Tensor*> readers;
  for (const model::TensorSpec& tensor : layer.spec.tensors) {
    if (tensor.reads == input) readers.push_back(&layer[tensor.role]);
  }
  return readers;
}

void RaiseTo(std::vector<float>& largest, const float* values) {
  for (size_t i = 0; i < largest.size(); ++i) {
    largest[i] = std::max(largest[i], std::fabs(values[i]));
  }
}

// The largest magnitude in each column of all the matrices.
std::vector<float> LargestWeights(const model::Model& model,
                                  const std::vector<const model::Tensor*>& matrices) {
  std::vector<float> largest(static_cast<size_t>(matrices.front()->cols));
  std::vector<float> row(largest.size());
  for (const model::Tensor* matrix : matrices) {
    model::CheckScales(*matrix, 0, matrix->rows, model.path());
    for (int64_t r = 0; r < matrix->rows; ++r) {
      DequantizeRow(matrix->dtype, matrix->row(r), matrix->cols, row.data());
      RaiseTo(largest, row.data());
    }
  }
  return largest;
}

// Raises each channel of a value head to the largest of the query heads that share it.
void ShareAcrossHeads(const model::ModelConfig& config, std::vector<float>& channels) {
  const int64_t shared = config.head_count / config.kv_head_count;
  for (int64_t kv_head = 0; kv_head < config.kv_head_count; ++kv_head) {
    float* first = channels.data() + kv_head * shared * config.head_dim;
    for (int64_t d = 0; d < config.head_dim; ++d) {
      float largest = 0;
      for (int64_t h = 0; h < shared; ++h) {
        largest = std::max(largest, first[h * config.head_dim + d]);
      }
      for (int64_t h = 0; h < shared; ++h) first[h * config.head_dim + d] = largest;
    }
  }
}

// Powers of two near inputs^kMigration / weights^(1 - kMigration), divided by their geometric mean.
std::vector<float> Factors(const std::vector<float>& inputs, const std::vector<float>& weights) {
  std::vector<float> factors(inputs.size(), 1.0F);
  const auto is_used = [&](size_t i) { return inputs[i] > 0 && weights[i] > 0; };
  const auto exponent = [&](size_t i) {
    return kMigration * std::log2(double{inputs[i]}) -
           (1 - kMigration) * std::log2(double{weights[i]});
  };
  double sum = 0;
  int64_t used = 0;
  for (size_t i = 0; i < factors.size(); ++i) {
    if (!is_used(i)) continue;
    sum += exponent(i);
    ++used;
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    if (!is_used(i)) continue;
    const double wanted = std::round(exponent(i) - sum / static_cast<double>(used));
    factors[i] =
        std::ldexp(1.0F, std::clamp(static_cast<int>(wanted), -kExponentMax, kExponentMax));
  }
  return factors;
}

}  // namespace

forward::InputSink InputRanges::sink() {
  return [this](int64_t layer, LayerInput input, std::span<const float> values, int64_t cols) {
    const std::lock_guard lock(mutex_);
    if (layer >= static_cast<int64_t>(largest_.size())) largest_.resize(layer + 1);
    std::vector<float>& largest = largest_[layer][static_cast<size_t>(input)];
    largest.resize(static_cast<size_t>(cols));
    for (size_t row = 0; row < values.size(); row += cols) RaiseTo(largest, values.data() + row);
  };
}

std::vector<LayerChannels> BalanceFactors(const model::Model& model,
                                          const std::vector<LayerChannels>& largest) {
  std::vector<LayerChannels> factors(largest.size());
  for (size_t layer = 0; layer < largest.size(); ++layer) {
    for (size_t input = 0; input < model::kLayerInputs; ++input) {
      const auto which = static_cast<LayerInput>(input);
      std::vector<float> inputs = largest[layer][input];
      std::vector<float> weights =
          LargestWeights(model, ReadersOf(model.tensors().layers[layer], which));
      if (which == LayerInput::kAttentionOutput) {
        ShareAcrossHeads(model.config(), inputs);
        ShareAcrossHeads(model.config(), weights);
      }
      factors[layer][input] = Factors(inputs, weights);
    }
  }
  return factors;
}

std::vector<LayerChannels> Calibrate(const std::string& model, const std::string& text,
                                     int32_t threads) {
  const int64_t context_tokens = model::Model::Open(model)->config().context_tokens;
  if (context_tokens < 2) {
    Throw(ErrorCode::kInvalidArgument, model,
          ": calibration needs a context of at least 2 tokens, ", "this model has ", context_tokens,
          ": convert it without --calibration");
  }
  WorkerOptions options;
  options.model = model;
  options.threads = threads;
  options.context_tokens_max = std::min(kWindowTokens, context_tokens);
  options.scheduler.sequences_max = 1;
  options.step_timeout_ms = 600'000;
  InputRanges ranges;
  comm::MpiEnvironment environment;
  const SteadyClock clock;
  const char* force_isa = std::getenv("SHOAL_FORCE_ISA");
  const std::unique_ptr<GroupSetup> setup =
      SetUpGroup(environment, options, force_isa == nullptr ? "" : force_isa, clock,
                 /*on_logits=*/nullptr, ranges.sink());
  ComputePerplexity(*setup, options, TokenizeScoredText(text, *setup));
  return BalanceFactors(*setup->model, ranges.largest());
}

}  // namespace shoal::rank
