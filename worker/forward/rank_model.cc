#include "worker/forward/rank_model.h"

#include <vector>

#include "kernels/math/rope_table.h"
#include "parallel/plan/kv_layout.h"
#include "worker/forward/activations.h"
#include "worker/forward/choice/sequence_rules.h"
#include "worker/forward/choice/token_chooser.h"
#include "worker/forward/kv_pool.h"
#include "worker/forward/layer/embedding.h"
#include "worker/forward/layer/layer_ops.h"
#include "worker/forward/layer/layer_stack.h"
#include "worker/forward/numerics.h"
#include "worker/forward/ops/ops.h"
#include "worker/forward/rows/layer_run.h"
#include "worker/forward/rows/row_executor.h"
#include "worker/forward/rows/sequence_table.h"
#include "worker/forward/rows/stage_exchange.h"
#include "worker/forward/rows/step_rows.h"
#include "worker/forward/shard_weights.h"

namespace shoal::forward {
namespace {

StageExchangeOptions ExchangeOptions(const model::Model& model,
                                     std::span<const plan::RankShard> shards,
                                     const RankOptions& options, int32_t stage_ranks) {
  StageExchangeOptions exchange = {.rank = options.rank,
                                   .ranks_per_stage = options.cut.tensor_parallel,
                                   .rows_max = options.rows_max(),
                                   .hidden_dim = model.config().hidden_dim,
                                   .sequence_parallel_rows_min = options.sequence_parallel_rows_min,
                                   .fast = options.numerics == Numerics::kFast && stage_ranks > 1,
                                   .vocab_rows = {}};
  for (const plan::RankShard& shard : shards) {
    if (shard.stage == shards[options.rank].stage) exchange.vocab_rows.push_back(shard.vocab_rows);
  }
  return exchange;
}

// The memory of the matrices that come after the last layer of a step: the output's, or the first
// layer's of the next step.
std::span<const std::byte> AfterLayers(const ShardWeights& weights, bool is_last_stage) {
  return is_last_stage ? MemoryOf(weights.output(), weights.output())
                       : StartOf(weights.layers().front());
}

}  // namespace

// What the forward pass is made of, in the order in which each needs those before it.
class RankModel::Parts {
 public:
  Parts(const model::Model& model, std::span<const plan::RankShard> shards,
        const RankOptions& options, const cpu::KernelTable& kernels, device::ThreadTeam& team,
        comm::Communicator& group, comm::Communicator& stage);

  std::optional<engine::StepResult> Run(const engine::StepPlan& plan);
  void SendRows();

  SequenceRules& rules() { return rules_; }
  const std::string& numerics_id() const { return numerics_id_; }
  const ShardWeights& weights() const { return weights_; }

 private:
  // From the tokens, or what the stage before made of them, to this stage's last residuals.
  void ComputeRows();
  // Of the last layer, nobody reads more of most rows of a prompt than their keys and values.
  // Keeps the rows whose logits are wanted, with their queries and residuals.
  void KeepWantedRows();
  // Of rows whose residuals are current on all ranks of the stage.
  void DigestRows() { exchange_.DigestRows(rows_, activations_.residual.data()); }
  // What must be told again when other rows make up the step.
  void BeginRows();

  const plan::RankShard shard_;
  const RankOptions options_;
  const bool is_first_stage_;
  const bool is_last_stage_;

  const ShardWeights weights_;
  const KvPool kv_pool_;
  math::RopeTable rope_;
  std::string numerics_id_;
  SequenceTable sequences_;
  StepRows rows_;
  Activations activations_;
  StageExchange exchange_;
  FaultSwitch fault_;
  RowExecutor executor_;
  Ops ops_;
  const LayerOps layer_ops_;
  Embedding embedding_;
  LayerStack layers_;
  SequenceRules rules_;
  TokenChooser chooser_;
};

RankModel::Parts::Parts(const model::Model& model, std::span<const plan::RankShard> shards,
                        const RankOptions& options, const cpu::KernelTable& kernels,
                        device::ThreadTeam& team, comm::Communicator& group,
                        comm::Communicator& stage)
    : shard_(shards[options.rank]),
      options_(options),
      is_first_stage_(shard_.stage == 0),
      is_last_stage_(shard_.stage == options.cut.pipeline_parallel - 1),
      weights_(model, shards, options.rank, team),
      kv_pool_(options.kv_dtype, plan::MakeKvLayout(model, shard_, options.kv_dtype),
               options.kv_block_count),
      sequences_(options.sequences_max),
      rows_(options.rows_max()),
      activations_(model, shard_, options.rows_max(), team.thread_count(), stage.size()),
      exchange_(group, stage, ExchangeOptions(model, shards, options, stage.size())),
      fault_(options.planted_fault, shards, options.rank),
      executor_(team, activations_.all, activations_.tiles, /*ranks_meet=*/stage.size() > 1),
      ops_({model, shard_, kv_pool_, rope_, rows_, activations_}, kernels, executor_),
      layer_ops_(ops_, exchange_, activations_, options_.on_input, fault_),
      embedding_(*model.tensors().token_embedding, shard_.vocab_rows),
      layers_(layer_ops_, model, shard_, weights_.layers(), AfterLayers(weights_, is_last_stage_)),
      rules_(model, sequences_, options.sequences_max),
      chooser_({ops_, executor_, exchange_, activations_, rows_, sequences_, rules_},
               {weights_.output_norm(), weights_.output(), StartOf(weights_.layers().front())},
               shard_.vocab_rows, model.config(), kernels.choice, team.thread_count(),
               options_.on_logits) {
  const std::vector<double> frequencies = ModelRopeFrequencies(model.config());
  CheckStoredFrequencies(model, frequencies);
  rope_ = math::BuildRopeTable(frequencies, kRopeGain, options.context_tokens);
  numerics_id_ = NumericsId(model, SumOverRanks(weights_.digest(), group), options.kv_dtype,
                            frequencies, options.numerics, options.cut.tensor_parallel);
  if (exchange_.fast()) activations_.float_sums.resize(activations_.all.fixed.size());
}

std::optional<engine::StepResult> RankModel::Parts::Run(const engine::StepPlan& plan) {
  sequences_.Apply(plan);
  if (is_last_stage_) rules_.Apply(plan);
  rows_.List(plan, sequences_);
  BeginRows();
  if (!rows_.empty()) {
    fault_.OnStep(plan.step);
    exchange_.BeginStep(plan.step);
    ComputeRows();
    if (ops_.TakeWrongSum()) exchange_.ReportWrongSum();
  }
  if (!is_last_stage_) return std::nullopt;
  engine::StepResult result = chooser_.Choose(plan);
  if (!exchange_.is_first()) return std::nullopt;
  return result;
}

void RankModel::Parts::ComputeRows() {
  if (is_first_stage_) {
    embedding_.Run(ops_, exchange_, activations_, executor_.AllRows());
  } else {
    exchange_.ReceiveRows(rows_, activations_.residual.data());
  }
  const LayerPoint begin = {.layer = 0, .at_attention = false};
  const LayerPoint end = {.layer = layers_.count(), .at_attention = false};
  if (!is_last_stage_) {
    RunLayers(executor_, layers_, begin, end);
    if (!exchange_.is_sequence_parallel()) DigestRows();
    return;
  }
  const LayerPoint last_attention = {.layer = layers_.count() - 1, .at_attention = true};
  RunLayers(executor_, layers_, begin, last_attention);
  KeepWantedRows();
  if (rows_.empty()) return;
  RunLayers(executor_, layers_, last_attention, end);
  if (exchange_.is_sequence_parallel()) {
    exchange_.ShareBadLayers(rows_);
    exchange_.GatherRows(activations_.residual.data(), ops_.hidden_dim());
  }
  DigestRows();
}

void RankModel::Parts::BeginRows() {
  exchange_.Begin(rows_.count());
  executor_.Begin(rows_.count());
  ops_.SetCheckSums(exchange_.is_sequence_parallel());
  layers_.Begin(rows_);
}

void RankModel::Parts::KeepWantedRows() {
  const int64_t wanted = rows_.CountWanted();
  if (wanted == rows_.count()) return;
  ops_.BlameOverflows(shard_.layers.end - 1);
  exchange_.ShareBadLayers(rows_);
  if (wanted > 0) exchange_.GatherRows(activations_.residual.data(), ops_.hidden_dim());
  if (wanted > 0 || !exchange_.is_sequence_parallel()) DigestRows();
  ops_.KeepRows(rows_.KeepWanted());
  BeginRows();
}

void RankModel::Parts::SendRows() {
  if (!rows_.empty()) exchange_.SendRows(rows_, activations_.residual.data());
}

RankModel::RankModel(const model::Model& model, std::span<const plan::RankShard> shards,
                     const RankOptions& options, const cpu::KernelTable& kernels,
                     device::ThreadTeam& team, comm::Communicator& group, comm::Communicator& stage)
    : parts_(std::make_unique<Parts>(model, shards, options, kernels, team, group, stage)) {}

RankModel::~RankModel() = default;

std::optional<engine::StepResult> RankModel::Run(const engine::StepPlan& plan) {
  return parts_->Run(plan);
}

void RankModel::SendRows() { parts_->SendRows(); }

void RankModel::CheckGrammar(const GrammarSource& source) { parts_->rules().CheckGrammar(source); }

const std::string& RankModel::numerics_id() const { return parts_->numerics_id(); }

int64_t RankModel::weight_bytes() const { return parts_->weights().packed_bytes(); }

}  // namespace shoal::forward
