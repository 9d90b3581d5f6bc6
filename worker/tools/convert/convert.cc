#include "worker/tools/convert/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/device/thread_team.h"
#include "kernels/format/half.h"
#include "kernels/format/pack.h"
#include "kernels/format/quantize_weights.h"
#include "kernels/math/rope_table.h"
#include "parallel/model/files/gguf_writer.h"
#include "parallel/model/model.h"
#include "parallel/model/resolve.h"
#include "transport/base/error.h"
#include "transport/base/host/cores.h"
#include "worker/tools/convert/new_file.h"

// Tensor by tensor, a few rows at a time: memory stays small whatever the model's size.

namespace shoal::rank {
namespace {

constexpr int64_t kPartWeights = int64_t{1} << 22;  // Of one write.
constexpr float kWeightEnd = 0x1p15f;               // Scales of quantised formats are f16.

struct Job {
  model::GgufTensorPlan plan;
  const model::Tensor* source;
  int64_t layer = -1;
  const model::TensorSpec* spec = nullptr;  // Of the layer; null: it is outside the layers.
  int64_t rotated_head_dim = 0;  // Not 0: rows of heads whose halves become adjacent pairs.
  // What a weight is multiplied with, by its column, and divided by, by its row; empty: 1.
  std::vector<float> column_factors = {};
  std::vector<float> row_divisors = {};
};

// Rope rotates the pairs (i, i + head_dim / 2) of a safetensors folder, and (2 i, 2 i + 1) in GGUF.
int64_t SourceRow(const Job& job, int64_t row) {
  if (job.rotated_head_dim == 0) return row;
  const int64_t in_head = row % job.rotated_head_dim;
  return row - in_head + in_head / 2 + in_head % 2 * (job.rotated_head_dim / 2);
}

std::vector<Job> ListJobs(const model::Model& model, DType to) {
  const bool half_split = model.config().rope.layout == model::RopeLayout::kHalfSplit;
  std::vector<Job> jobs;
  for (const model::NamedTensor& named : model::GgufTensors(model.tensors())) {
    const model::Tensor& source = *named.tensor;
    Job& job = jobs.emplace_back();
    job.source = &source;
    job.layer = named.layer;
    job.spec = named.spec;
    job.plan = {.name = named.name, .dtype = DType::kF32, .rows = source.rows, .cols = source.cols};
    if (source.rows == 1) continue;
    const bool is_vocabulary =
        &source == model.tensors().token_embedding || &source == model.tensors().output;
    job.plan.dtype = FormatOf(to, source.cols, is_vocabulary);
    const bool is_rotated = named.spec != nullptr && named.spec->is_rotated;
    if (half_split && is_rotated) job.rotated_head_dim = named.spec->unit_size;
  }
  return jobs;
}

// Balances each layer: what reads an input is multiplied by the channels' factors, what produces
// it divided.
void AddFactors(const model::Model& model, const std::vector<LayerChannels>& factors,
                std::vector<Job>& jobs) {
  const int64_t head_group = model.config().head_count / model.config().kv_head_count;
  for (Job& job : jobs) {
    if (job.spec == nullptr || job.layer >= static_cast<int64_t>(factors.size())) continue;
    const model::TensorSpec& spec = *job.spec;
    const LayerChannels& inputs = factors[static_cast<size_t>(job.layer)];
    if (spec.reads) job.column_factors = inputs[static_cast<size_t>(*spec.reads)];
    if (!spec.scales) continue;
    const std::vector<float>& channels = inputs[static_cast<size_t>(*spec.scales)];
    if (spec.is_norm()) {
      for (const float factor : channels) job.column_factors.push_back(1 / factor);
      continue;
    }
    // Of the query heads that share a value head, the first.
    const int64_t shared = spec.unit == model::CutUnit::kKvHeads ? head_group : 1;
    for (int64_t row = 0; row < spec.rows; ++row) {
      const int64_t unit = row / spec.unit_size;
      job.row_divisors.push_back(channels[unit * shared * spec.unit_size + row % spec.unit_size]);
    }
  }
}

// GGUF holds llama 3's scaling as divisors of the frequencies. Empty without scaling.
std::vector<float> FrequencyDivisors(const model::ModelConfig& config) {
  if (!config.rope.llama3) return config.rope.frequency_divisors;
  const std::vector<double> plain = math::RopeFrequencies(config.rope.theta, config.head_dim);
  std::vector<double> scaled = plain;
  const model::Llama3RopeScaling& scaling = *config.rope.llama3;
  math::ApplyLlama3Scaling(scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor,
                           scaling.original_context_tokens, scaled);
  std::vector<float> divisors;
  for (size_t i = 0; i < plain.size(); ++i) {
    divisors.push_back(static_cast<float>(plain[i] / scaled[i]));
  }
  return divisors;
}

void Store(DType dtype, const float* weights, int64_t cols, std::byte* row) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(row, weights, static_cast<size_t>(cols) * 4);
      return;
    case DType::kF16:
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        const uint16_t bits = dtype == DType::kF16 ? F32ToF16(weights[i]) : F32ToBF16(weights[i]);
        std::memcpy(row + 2 * i, &bits, 2);
      }
      return;
    default:
      QuantizeWeights(dtype, weights, cols, row);
  }
}

// Rows [begin, end) of the output.
class RowWriter {
 public:
  RowWriter(const model::Model& model, device::ThreadTeam& team) : model_(model), team_(team) {}

  void Convert(const Job& job, int64_t begin, int64_t end, std::vector<std::byte>& bytes) {
    const model::Tensor& source = *job.source;
    const int64_t row_bytes = RowBytes(job.plan.dtype, job.plan.cols);
    bytes.resize(static_cast<size_t>((end - begin) * row_bytes));
    // An Error cannot leave a team's thread: the one of the first row is kept and thrown from here.
    std::mutex mutex;
    std::optional<Error> failure;
    int64_t failed_row = end;
    team_.ParallelFor(end - begin, 8, [&](int64_t from, int64_t to, int32_t) {
      std::vector<float> weights(static_cast<size_t>(source.cols));
      for (int64_t row = begin + from; row < begin + to; ++row) {
        try {
          Widen(job, row, weights);
        } catch (const Error& error) {
          const std::lock_guard lock(mutex);
          if (row < failed_row) failure.emplace(error);
          failed_row = std::min(failed_row, row);
          return;
        }
        Store(job.plan.dtype, weights.data(), source.cols,
              bytes.data() + (row - begin) * row_bytes);
      }
    });
    if (failure) throw *failure;
  }

 private:
  void Widen(const Job& job, int64_t row, std::vector<float>& weights) const {
    const model::Tensor& source = *job.source;
    const int64_t source_row = SourceRow(job, row);
    model::CheckScales(source, source_row, source_row + 1, model_.path());
    DequantizeRow(source.dtype, source.row(source_row), source.cols, weights.data());
    for (size_t i = 0; i < job.column_factors.size(); ++i) weights[i] *= job.column_factors[i];
    if (!job.row_divisors.empty()) {
      for (float& weight : weights) weight /= job.row_divisors[static_cast<size_t>(row)];
    }
    const float end = job.plan.dtype == DType::kF32 || job.plan.dtype == DType::kBF16
                          ? std::numeric_limits<float>::infinity()
                          : kWeightEnd;
    for (const float weight : weights) {
      if (std::fabs(weight) < end) continue;
      Throw(ErrorCode::kInvalidArgument, model_.path(), ": tensor \"", source.name, "\", row ",
            source_row, ": the weight ", weight, " does not fit ", ToString(job.plan.dtype),
            ", expected finite ones below ", end, ": fetch the model again, or convert to f32");
    }
  }

  const model::Model& model_;
  device::ThreadTeam& team_;
};

// What rows that are no whole blocks of `format` get instead, if they are blocks of 32.
DType FallBack(DType format) {
  switch (format) {
    case DType::kQ4_G128:
      return DType::kQ4_0;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    default:
      return DType::kQ8_0;
  }
}

}  // namespace

DType FormatOf(DType to, int64_t cols, bool is_vocabulary) {
  const bool keeps_bits = !is_vocabulary || !IsQuantized(to) || to == DType::kINT8;
  DType format = keeps_bits ? to : DType::kQ8_0;
  if (cols % BlockWeights(format) != 0) format = FallBack(format);
  return cols % BlockWeights(format) == 0 ? format : DType::kF16;
}

ConvertReport Convert(const ConvertOptions& options) {
  const auto model = model::Model::Open(options.model);
  std::vector<Job> jobs = ListJobs(*model, options.to);
  const std::vector<float> divisors = FrequencyDivisors(model->config());
  model::Tensor divisor_tensor = {.name = "rope_freqs.weight",
                                  .dtype = DType::kF32,
                                  .rows = 1,
                                  .cols = static_cast<int64_t>(divisors.size()),
                                  .data = reinterpret_cast<const std::byte*>(divisors.data())};
  if (!divisors.empty()) {
    jobs.push_back({.plan = {.name = divisor_tensor.name, .cols = divisor_tensor.cols},
                    .source = &divisor_tensor});
  }
  std::vector<model::GgufTensorPlan> plans;
  ConvertReport report;
  for (const Job& job : jobs) {
    plans.push_back(job.plan);
    report.matrix_weights += job.plan.rows == 1 ? 0 : job.plan.rows * job.plan.cols;
    report.source_bytes += job.source->bytes();
    report.output_bytes += job.plan.bytes();
  }
  const std::string header = model::GgufHeader(model::GgufMetadata(*model), plans);
  auto file_bytes = static_cast<int64_t>(header.size());
  for (const model::GgufTensorPlan& plan : plans) {
    file_bytes += plan.bytes() + model::GgufPadding(plan.bytes());
  }
  NewFile file(options.output, file_bytes);
  if (options.factors != nullptr) AddFactors(*model, options.factors(), jobs);
  file.Write(std::as_bytes(std::span(header)));
  device::ThreadTeam team(options.threads > 0 ? options.threads : AvailableCores());
  RowWriter writer(*model, team);
  std::vector<std::byte> bytes;
  for (const Job& job : jobs) {
    const int64_t part = std::max<int64_t>(1, kPartWeights / job.plan.cols);
    for (int64_t row = 0; row < job.plan.rows; row += part) {
      writer.Convert(job, row, std::min(row + part, job.plan.rows), bytes);
      file.Write(bytes);
    }
    bytes.assign(static_cast<size_t>(model::GgufPadding(job.plan.bytes())), std::byte{0});
    file.Write(bytes);
  }
  file.Commit();
  return report;
}

}  // namespace shoal::rank
