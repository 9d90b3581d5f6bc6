#include "worker/rank/bench_engine.h"

#include <algorithm>

#include "kernels/cpu/probe.h"
#include "transport/base/error.h"

namespace shoal::rank {
namespace {

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench(GroupSetup& setup, const WorkerOptions& options, const Clock& clock)
      : setup_(setup),
        clock_(clock),
        scheduler_({.sequences_max = options.sequences_max,
                    .prefill_chunk_tokens = options.prefill_chunk_tokens,
                    .kv_block_count = setup.cache_blocks(),
                    .context_tokens = setup.context_tokens,
                    .steps_in_flight_max = setup.cut.pipeline_parallel}) {}

  // Tokens per second from the submission of a prompt to its first token.
  double Prefill(int64_t prompt_tokens) {
    const TimeNs begin = clock_.now();
    Submit(prompt_tokens, 1, 0);
    while (!scheduler_.idle()) Turn();
    return Rate(prompt_tokens, begin);
  }

  // Tokens per second of `batch` sequences at once, with `context_tokens` each in the cache.
  double Decode(int64_t batch, int64_t context_tokens, int64_t decode_tokens) {
    for (int64_t s = 0; s < batch; ++s) Submit(context_tokens, decode_tokens + 1, s);
    received_ = 0;
    // The first token of each comes from its prompt.
    while (received_ < batch) Turn();
    const int64_t before = received_;
    const TimeNs begin = clock_.now();
    while (!scheduler_.idle()) Turn();
    return Rate(received_ - before, begin);
  }

  void Stop() { setup_.member->step().Issue(scheduler_.StopStep()); }

 private:
  void Submit(int64_t prompt_tokens, int64_t tokens_max, int64_t salt) {
    std::vector<int32_t> prompt(prompt_tokens);
    for (int64_t i = 0; i < prompt_tokens; ++i) {
      prompt[i] = (100 + salt + i % 1000) % setup_.model->config().vocab_size;
    }
    GenerationParams params;
    params.sampling.temperature = 0;
    params.tokens_max = tokens_max;
    if (scheduler_.Submit(next_id_++, std::move(prompt), params) !=
        engine::SubmitOutcome::kAccepted) {
      Throw(ErrorCode::kInvalidArgument, "a sequence of ", prompt_tokens + tokens_max,
            " tokens does not fit: raise --context-tokens-max, --kv-cache-tokens or "
            "--sequences-max");
    }
  }

  void Turn() {
    LeaderTurn(scheduler_, setup_.member->step());
    for (const SequenceUpdate& update : scheduler_.TakeUpdates()) {
      received_ += update.tokens.size();
    }
  }

  double Rate(int64_t tokens, TimeNs begin) const {
    return static_cast<double>(tokens) * kSecondNs / static_cast<double>(clock_.now() - begin);
  }

  GroupSetup& setup_;
  const Clock& clock_;
  engine::Scheduler scheduler_;
  uint64_t next_id_ = 0;
  int64_t received_ = 0;
};

template <typename Measure>
double MedianOf(int32_t repeat, const Measure& measure) {
  measure();
  std::vector<double> rates;
  for (int32_t run = 0; run < repeat; ++run) rates.push_back(measure());
  return Median(std::move(rates));
}

// Multiply-additions with this rank's weights for one row, without the output head, which prefill
// applies to its last row alone.
int64_t LayerMacs(const model::ModelConfig& config, const plan::RankShard& shard) {
  const int64_t attention =
      (2 * shard.heads.count() + 2 * shard.kv_heads.count()) * config.head_dim;
  return shard.layers.count() * config.hidden_dim * (attention + 3 * shard.mlp_columns.count());
}

}  // namespace

nlohmann::ordered_json BenchEngine(GroupSetup& setup, const WorkerOptions& options,
                                   const BenchOptions& bench, const Clock& clock) {
  if (!setup.member->leads()) {
    while (setup.member->step().Follow()) {
    }
    return nullptr;
  }
  const int64_t weight_bytes = setup.member->model().weight_bytes();
  const double streaming =
      cpu::StreamingReadBytesPerSecond(*setup.kernels, *setup.team, clock, weight_bytes);
  const DType dtype = setup.model->tensors().layers.front().gate->dtype;
  const double dots = cpu::DotOpsPerSecond(*setup.kernels, dtype, *setup.team, clock);

  Bench engine(setup, options, clock);
  nlohmann::ordered_json result = {{"ranks", setup.cut.rank_count()},
                                   {"threads", setup.threads},
                                   {"instruction_set", setup.kernels->name}};
  const double prefill =
      MedianOf(bench.repeat, [&] { return engine.Prefill(bench.prompt_tokens); });
  result["prefill_tokens_per_second"] = prefill;
  double single = 0;
  for (const int64_t batch : bench.batches) {
    const double rate = MedianOf(bench.repeat, [&] {
      return engine.Decode(batch, bench.context_tokens, bench.decode_tokens);
    });
    result["decode_tokens_per_second_batch_" + std::to_string(batch)] = rate;
    if (batch == 1) single = rate;
  }
  engine.Stop();
  result["streaming_read_bytes_per_second"] = streaming;
  result["streaming_read_fraction"] = single * static_cast<double>(weight_bytes) / streaming;
  result["dot_ops_per_second"] = dots;
  result["dot_product_fraction"] =
      prefill * static_cast<double>(LayerMacs(setup.model->config(), setup.member->shard())) / dots;
  return result;
}

}  // namespace shoal::rank
