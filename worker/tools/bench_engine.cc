#include "worker/tools/bench_engine.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/cpu/probe/probe.h"
#include "parallel/plan/predict.h"
#include "transport/base/error.h"
#include "worker/forward/activations.h"

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
        prefill_chunk_tokens_(options.scheduler.prefill_chunk_tokens),
        scheduler_({.sequences_max = options.scheduler.sequences_max,
                    .prefill_chunk_tokens = options.scheduler.prefill_chunk_tokens,
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
  // Counted while all of them decode: from the first token of the last one to start, to the last
  // token of the first one to end.
  double Decode(int64_t batch, int64_t context_tokens, int64_t decode_tokens) {
    // Sequences already decode while later ones read their prompts, which takes at least so many
    // steps: each gets twice as many tokens on top.
    const int64_t chunks =
        (batch * context_tokens + prefill_chunk_tokens_ - 1) / prefill_chunk_tokens_;
    started_.clear();
    ended_ = 0;
    for (int64_t s = 0; s < batch; ++s) Submit(context_tokens, decode_tokens + 2 * chunks, s);
    while (static_cast<int64_t>(started_.size()) < batch) Turn();
    received_ = 0;
    const TimeNs begin = clock_.now();
    while (ended_ == 0) Turn();
    const double rate = Rate(received_, begin);
    while (!scheduler_.idle()) Turn();
    return rate;
  }

  // Ends the other ranks' FollowUntilStop.
  void Stop() {
    setup_.member->step().Issue(scheduler_.StopStep());
    setup_.member->step().Collect();
  }

 private:
  void Submit(int64_t prompt_tokens, int64_t tokens_max, int64_t salt) {
    std::vector<int32_t> prompt(prompt_tokens);
    for (int64_t i = 0; i < prompt_tokens; ++i) {
      prompt[i] = (100 + salt + i % 1000) % setup_.model->config().vocab_size;
    }
    GenerationParams params;
    params.sampling.temperature = 0;
    params.tokens_max = tokens_max;
    if (scheduler_.Submit({next_id_++, std::move(prompt), params}) !=
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
      if (!update.tokens.empty()) started_.insert(update.id);
      if (update.finish != FinishReason::kNone) ++ended_;
    }
  }

  double Rate(int64_t tokens, TimeNs begin) const {
    return static_cast<double>(tokens) * kSecondNs / static_cast<double>(clock_.now() - begin);
  }

  GroupSetup& setup_;
  const Clock& clock_;
  const int64_t prefill_chunk_tokens_;
  engine::Scheduler scheduler_;
  uint64_t next_id_ = 0;
  int64_t received_ = 0;  // Tokens since the count was last set to 0.
  std::set<uint64_t> started_;
  int64_t ended_ = 0;
};

template <typename Measure>
double MedianOf(int32_t repeat, const Measure& measure) {
  measure();
  std::vector<double> rates;
  for (int32_t run = 0; run < repeat; ++run) rates.push_back(measure());
  return Median(std::move(rates));
}

int64_t SumOverRanks(comm::Communicator& group, double value) {
  auto sum = static_cast<int64_t>(value);
  group.AllReduceSum(std::span(&sum, 1));
  return sum;
}

// The format of most of the layers' weights.
DType MainFormat(const model::Model& model) {
  std::array<int64_t, kDTypeCount> weights = {};
  for (const model::LayerTensors& layer : model.tensors().layers) {
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      weights[static_cast<size_t>(layer[tensor.role].dtype)] += tensor.rows * tensor.cols;
    }
  }
  return static_cast<DType>(std::max_element(weights.begin(), weights.end()) - weights.begin());
}

// What the machine can do, of all ranks together.
struct Machine {
  double dot_ops_per_second = 0;
  double all_reduce_seconds = 0;
};

// Seconds of one all-reduce of a row's sums, which a decode step of one row makes twice a layer.
double AllReduceSeconds(comm::Communicator& group, int64_t hidden_dim, const Clock& clock) {
  constexpr int kWarmUp = 20;
  constexpr int kCount = 200;
  if (group.size() == 1) return 0;
  std::vector<int64_t> row(hidden_dim + forward::kFixedTail);
  TimeNs begin = 0;
  for (int i = 0; i < kWarmUp + kCount; ++i) {
    if (i == kWarmUp) begin = clock.now();
    group.AllReduceSum(row);
  }
  return static_cast<double>(clock.now() - begin) / kCount / kSecondNs;
}

// Collective. The ranks measure at the same time, because on one machine they share its cores.
Machine MeasureMachine(GroupSetup& setup, const Clock& clock) {
  comm::Communicator& group = *setup.group;
  const DType dtype = MainFormat(*setup.model);
  Machine machine;
  machine.dot_ops_per_second =
      SumOverRanks(group, cpu::DotOpsPerSecond(*setup.kernels, dtype, *setup.team, clock));
  machine.all_reduce_seconds = AllReduceSeconds(group, setup.model->config().hidden_dim, clock);
  return machine;
}

// How fast the weights' bytes can be read.
class WeightRead {
 public:
  WeightRead(GroupSetup& setup, const Clock& clock)
      : group_(*setup.group),
        clock_(clock),
        read_(*setup.kernels, *setup.team, setup.member->model().weight_bytes()),
        weight_bytes_(SumOverRanks(group_, setup.member->model().weight_bytes())) {}

  // Collective: on one machine the ranks share its memory.
  double BytesPerSecond() { return SumOverRanks(group_, read_.BytesPerSecond(clock_)); }

  // The sum over all ranks.
  double weight_bytes() const { return weight_bytes_; }

 private:
  comm::Communicator& group_;
  const Clock& clock_;
  const cpu::StreamingRead read_;
  const double weight_bytes_;
};

void FollowUntilStop(forward::GroupStep& step) {
  while (step.Follow()) {
  }
}

}  // namespace

nlohmann::ordered_json BenchEngine(GroupSetup& setup, const WorkerOptions& options,
                                   const BenchOptions& bench, const Clock& clock) {
  const Machine machine = MeasureMachine(setup, clock);
  WeightRead weight_read(setup, clock);
  if (!setup.member->leads()) {
    for (int32_t run = 0; run <= bench.repeat; ++run) {
      FollowUntilStop(setup.member->step());
      weight_read.BytesPerSecond();
    }
    FollowUntilStop(setup.member->step());
    return nullptr;
  }
  Bench engine(setup, options, clock);
  nlohmann::ordered_json result = {{"ranks", setup.cut.rank_count()},
                                   {"threads", setup.threads},
                                   {"instruction_set", setup.kernels->name}};
  const double prefill =
      MedianOf(bench.repeat, [&] { return engine.Prefill(bench.prompt_tokens); });
  result["prefill_tokens_per_second"] = prefill;
  std::vector<double> singles;
  std::vector<double> reads;
  std::vector<double> fractions;
  for (int32_t run = 0; run <= bench.repeat; ++run) {
    const double rate = engine.Decode(1, bench.context_tokens, bench.decode_tokens);
    engine.Stop();
    const double read = weight_read.BytesPerSecond();
    if (run == 0) continue;
    singles.push_back(rate);
    reads.push_back(read);
    fractions.push_back(rate * weight_read.weight_bytes() / read);
  }
  result["decode_tokens_per_second_batch_1"] = Median(std::move(singles));
  for (const int64_t batch : bench.batches) {
    if (batch > options.scheduler.sequences_max) continue;  // Would run one after another.
    result["decode_tokens_per_second_batch_" + std::to_string(batch)] = MedianOf(bench.repeat, [&] {
      return engine.Decode(batch, bench.context_tokens, bench.decode_tokens);
    });
  }
  engine.Stop();
  double macs = 0;
  for (const plan::RankShard& shard : setup.shards) {
    macs += static_cast<double>(plan::LayerMacs(*setup.model, shard));
  }
  result["streaming_read_bytes_per_second"] = Median(std::move(reads));
  result["streaming_read_fraction"] = Median(std::move(fractions));
  result["dot_ops_per_second"] = machine.dot_ops_per_second;
  result["dot_product_fraction"] = prefill * macs / machine.dot_ops_per_second;
  result["all_reduce_seconds"] = machine.all_reduce_seconds;
  return result;
}

}  // namespace shoal::rank
