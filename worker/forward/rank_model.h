#pragma once

// One rank's part of the forward pass: its layers, heads, MLP columns and vocabulary rows.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "kernels/math/rope_table.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/engine/choice/grammar_states.h"
#include "worker/engine/choice/sampler.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/activations.h"
#include "worker/forward/kv_pool.h"
#include "worker/forward/layer_flow.h"
#include "worker/forward/numerics.h"
#include "worker/forward/sequence_table.h"
#include "worker/forward/shard_weights.h"

namespace shoal::forward {

using LogitsSink =
    std::function<void(uint64_t id, int64_t position, std::span<const float> logits)>;

// What a layer's matrices multiply, each as many columns wide as they are.
enum class LayerInput : uint8_t {
  kAttention,        // Read by query, key and value.
  kAttentionOutput,  // The heads' outputs.
  kMlp,              // Read by gate and up.
  kDown,             // silu(gate) * up.
};
constexpr size_t kLayerInputs = 4;

// `values`: [rows][cols].
using InputSink = std::function<void(int64_t layer, LayerInput input, std::span<const float> values,
                                     int64_t cols)>;

struct RankOptions {
  plan::Cut cut;
  int32_t rank = 0;
  KvDType kv_dtype = KvDType::kF16;
  Numerics numerics = Numerics::kExact;
  int64_t kv_block_count = 0;
  int64_t context_tokens = 0;  // Positions that the rope table covers.
  int32_t sequences_max = 32;
  int64_t prefill_chunk_tokens = 512;
  // Steps of so many rows deal them to the stage's ranks between the matrices.
  int64_t scatter_rows_min = 64;
  // Sees the logits of every row that a plan asks for, on the first rank of the last stage; set on
  // every rank of a group or on none. For digests and tests.
  LogitsSink on_logits;
  // Sees the inputs of this rank's matrices before they are quantised, those rows and columns of
  // them that it computes itself, and all rows in the last layer too; set on every rank or on none.
  InputSink on_input;
};

// Order:     all ranks of the group construct it, and run the same plans in the same order.
// Result:    every output is a function of the sequence's own tokens and parameters alone.
// Threading: one thread, which is thread 0 of the team.
// Errors:    those of the communicators; after one, the object is of no further use.
// Cost:      buffers have the size of the largest plan from the start; what a step still allocates
//            is small: sequences' tokens, the result, and what the filters of choosing sort.
class RankModel {
 public:
  // `group` spans all ranks, `stage` those of this rank's pipeline stage; both outlive the object.
  RankModel(const model::Model& model, std::span<const plan::RankShard> shards,
            const RankOptions& options, const cpu::KernelTable& kernels, device::ThreadTeam& team,
            comm::Communicator& group, comm::Communicator& stage);

  // Runs the plan's items. Result: on the first rank of the last stage the outcome of each item; on
  // the others nothing.
  std::optional<engine::StepResult> Run(const engine::StepPlan& plan);

  // After Run, in all stages but the last: hands the rows on to the next stage, whose Run waits for
  // them.
  void SendRows();

  // Errors: kInvalidArgument for a grammar that cannot be compiled for this model. Every rank
  // compiles the grammars of the plans it runs: those must have passed.
  void CheckGrammar(const GrammarSource& source);

  // 32 hex digits, equal on every rank and for every cut. Collective, once, before the first step.
  const std::string& numerics_id() const { return numerics_id_; }

  const SequenceTable& sequences() const { return sequences_; }
  // Bytes of this rank's packed matrices, without norms, caches and activations.
  int64_t weight_bytes() const { return weights_.packed_bytes(); }

 private:
  // Rows that one thread takes at a time in the operations between the matrices, at least.
  static constexpr int64_t kRowGrain = 4;

  // One row of a step: where it belongs and whether something went wrong with it.
  struct Row {
    uint32_t item = 0;
    uint32_t slot = 0;
    int64_t position = 0;
    // The first layer that made a sum of this row invalid; layer_count: its logits were.
    int64_t bad_layer = -1;
    bool chooses = false;          // A token is chosen from its logits.
    bool scores_the_next = false;  // They give the log-probability of the prompt's next token.
  };
  // Column-parallel matrices that read the same rows, at most: query, key and value.
  static constexpr size_t kProductsMax = 3;
  // A product of the step's activations with one column-parallel matrix.
  struct Product {
    const PackedMatrix* weights;
    float* output;
    int64_t output_stride;
  };

  // The norm of the residual in the forms that the matrices which read it want.
  struct NormedInput {
    const float* norm = nullptr;                   // [hidden_dim]; null: nothing reads it.
    std::array<DType, kProductsMax> readers = {};  // One may stand there twice.
  };

  // A row-parallel sum: its leaves, and the layer that a bad row is blamed on.
  struct LeafSum {
    const PackedMatrix& weights;
    int64_t leaf_cols;
    int64_t leaf_count;                  // Of all ranks.
    int64_t layer;                       // Of the model.
    std::span<const int64_t> overflows;  // Per row, added to the invalid leaves; may be empty.
    NormedInput then;                    // Made of the residual once the sum is added to it.
    std::span<const std::byte> next;     // As Multiply's.
  };

  // Where rows of a step are: row `begin` of the step is the first row of `rows`.
  struct RowSpace {
    LayerRows* rows;
    int64_t begin = 0;
  };

  // The attention of some rows of the step to one key/value head. Blocks may be shared: then it
  // reads what rows of other items, which come before, store in the same step. And it goes through
  // whole blocks, in which there are keys of its item's next rows too.
  struct RowsCall {
    LayerFlow::Call rows;
    cpu::AttentionCall call;
  };

  // Some rows of a step and who works on them: all rows, by the whole team, region after region,
  // or a part of many, by the calling thread alone.
  struct Work {
    plan::Range rows;
    bool alone;
    RowSpace shared;  // normed, what is quantised of it, and fixed: what ranks exchange.
    RowSpace own;     // The rest of what stands between the matrices.
  };

  void ListRows(const engine::StepPlan& plan);
  // Of the last layer, nobody reads more of most rows of a prompt than their keys and values. Keeps
  // the rows whose logits are wanted, with their queries and residuals.
  void KeepWantedRows(int64_t layer);
  // Tells all ranks of the stage what one of them knows: the layer that made a row bad.
  void ShareBadLayers();
  // What the last stage's choice of tokens reads of rows that other ranks finished.
  void GatherResults();
  // Decides which rows this rank finishes between the matrices of this step: all of them, as every
  // rank of the stage does (few rows: one all-reduce is the shortest exchange), or its deal (many:
  // the sums are scattered, and only what the next matrix reads is gathered).
  void DealRows();
  plan::Range RowsOf(int32_t stage_rank) const;
  // Sums `fixed` over the stage's ranks, `stride` integers a row, as far as own_rows_ needs it.
  void SumFixed(int64_t stride);
  // residual += the sums of `fixed`, and makes these rows of what comes then; rows whose sum is
  // invalid are blamed on the sum's layer.
  void AddSums(const LeafSum& sum, const Work& work);
  // Over all ranks of the stage, and fetches what comes then of the rows that others finish.
  void ExchangeSums(const LeafSum& sum);
  // The same for Numerics::kFast.
  void ExchangeFloatSums(const LeafSum& sum);
  // to += what a row of `fixed` stands for. Result: how much of it is invalid.
  int64_t AddRow(const PackedMatrix& weights, int64_t row, const Work& work, float* to);
  // Fills the other ranks' rows of an array that holds this rank's own. Shape: [rows][width].
  template <typename T>
  void GatherRows(T* data, int64_t width);
  void Embed();
  Work AllRows() {
    return {
        {0, static_cast<int64_t>(rows_.size())}, false, {&activations_.all}, {&activations_.all}};
  }
  // Calls function(work) for works that tile the rows of the step. Of many rows each thread takes a
  // part through all of `function` before it takes the next: what it makes stays in its caches, and
  // threads wait for each other once. `whole`: not, since the ranks exchange something meanwhile.
  template <typename Function>
  void ForWorks(bool whole, const Function& function);
  // The operations between the matrices: function(begin, end, thread) for ranges that tile the
  // work's rows. Of many rows a range is whole cache blocks where they begin with one, because its
  // positions share lines of keys, and threads that write one line wait for each other.
  void ForRows(const Work& work, const device::RangeFunction& function);
  // What a layer's attention and MLP begin with.
  NormedInput AttentionInput(int64_t layer) const;
  NormedInput MlpInput(int64_t layer) const;
  // Makes a row of an input. What it is quantised to is quantised once for each group size among
  // the readers.
  void NormRow(const NormedInput& input, int64_t row, const RowSpace& to);
  // Fetches the rows of an input that other ranks made.
  void GatherInput(const NormedInput& input);
  // Makes the first layer's input and its heads, and does as many layers as FlowThroughLayers can:
  // returns how many.
  int64_t BeginLayers();
  // Takes many rows, in so many parts, through the layers whose rows this rank alone finishes, from
  // the first one's input on: no thread waits for all others. Returns how many layers.
  int64_t FlowThroughLayers(int64_t part_count);
  // Quantises a row of `cols` values to row `row` of `to`, as a matrix of `dtype` reads it; nothing
  // for floats.
  void QuantizeRow(DType dtype, const float* values, int64_t cols, LayerRows& to, int64_t row);
  // True if the input of these weights, of which each rank of the stage holds other columns, is
  // quantised by what all ranks know of a row.
  bool QuantizesTogether(const PackedMatrix& weights) const {
    return QuantizesWholeRows(weights.dtype) && stage_.size() > 1;
  }
  // Calls make(row), which makes a row of `values`, whose first is the work's, for each of the
  // work's rows, and quantises them: the input of `weights`, of which each rank of the stage holds
  // other columns.
  template <typename Make>
  void QuantizeColumnShard(const PackedMatrix& weights, const float* values, const Work& work,
                           Make make);
  // `count` rows as a matrix of `dtype` reads them: `values`, or what they were quantised to, from
  // row `first` of `at` on.
  ActivationRows Input(DType dtype, const float* values, int64_t cols, int64_t count, LayerRows& at,
                       int64_t first);
  // The products with the work's rows of `normed`, quantised as the matrices want them. The outputs
  // begin with the work's first row. `next`: the memory of the matrices that come after these.
  void Multiply(std::span<const Product> products, const Work& work,
                std::span<const std::byte> next);
  // A part of it: rows counted from the work's first, which is row `first` of `at`, panels over all
  // products.
  void MultiplyPart(std::span<const Product> products, LayerRows& at, int64_t first,
                    plan::Range rows, plan::Range panels);
  // Calls function(rows, panels), on all threads, for parts of a product that tile [0, rows) x
  // [0, panels), each of `panels_min` panels at least, unless there are fewer. `bytes`: of all
  // panels' weights. `next`: as Multiply's.
  template <typename Function>
  void ForParts(int64_t panels, int64_t bytes, int64_t rows, int64_t panels_min,
                std::span<const std::byte> next, Function function);
  // The memory of the matrices that a layer begins with; behind the last one, of the output's.
  std::span<const std::byte> StartOf(int64_t layer) const;
  void RotateAndStore(int64_t layer, const Work& work);
  void ListAttentionCalls(int64_t layer);
  // Projects the rows, and stores their keys and values.
  void ProjectQkv(int64_t layer, const Work& work);
  void Attend(int64_t layer);
  void RunAttention(cpu::AttentionCall call, int32_t thread);
  // What comes after the attention of a layer, with the next one's heads.
  void FinishLayer(int64_t layer);
  // The same for rows that nothing is exchanged for.
  void FinishRows(int64_t layer, const Work& work);
  LeafSum AttentionSum(int64_t layer) const;
  LeafSum MlpSum(int64_t layer) const;
  bool IsLast(int64_t layer) const { return layer + 1 == shard_.layers.count(); }
  void ProjectAttention(int64_t layer, const LeafSum& sum, const Work& work);
  void RunMlp(int64_t layer, const LeafSum& sum, const Work& work);
  // The work's first row of `fixed`.
  int64_t* FixedOf(const Work& work) const {
    return work.shared.rows->fixed.data() +
           (work.rows.begin - work.shared.begin) * (model_.config().hidden_dim + kFixedTail);
  }
  // fixed = this rank's part of the sum of `input` times the sum's weights, with the invalid leaves
  // of each row. `input`, whose first row is the work's, is quantised already, if the weights are.
  void SumLeaves(const LeafSum& sum, const float* input, const Work& work);
  // A part of it, as MultiplyPart.
  void SumLeavesPart(const LeafSum& sum, const float* input, const Work& work, plan::Range rows,
                     plan::Range panels);
  // Shows rows [begin, end) of an input to on_input.
  void ShowInput(int64_t layer, LayerInput input, std::span<const float> values, int64_t cols,
                 plan::Range rows) const;
  void ReceiveResidual();

  // A row whose logits are wanted: to choose the token behind it (prompt_index -1), which is the
  // item's chosen_index-th, or for the log-probability of the prompt's next token, which is the
  // item's prompt_index-th.
  struct Wanted {
    int64_t row;
    int64_t prompt_index;
    int64_t chosen_index;
  };

  void StartGrammars(const engine::StepPlan& plan);
  engine::StepResult MakeResult(const engine::StepPlan& plan);
  void ChooseTokens(engine::StepResult& result);
  // Fills activations_.logits for at most kLogitTileRows rows.
  void ComputeLogits(std::span<const Wanted> tile);
  // Joins them over the stage's ranks into activations_.all_logits, on the rank that reports.
  void GatherLogits(int64_t tile_rows);
  void ChooseByMaximum(std::span<const Wanted> tile, engine::StepResult& result);
  void ChooseFromAll(std::span<const Wanted> tile, engine::StepResult& result);
  // Calls `choose` with the index of every row of the tile, on all threads.
  void ForEachChoice(std::span<const Wanted> tile,
                     const std::function<void(int64_t i, int32_t thread)>& choose);
  // What the choice after a row depends on, until the next call for the same sequence. Threads may
  // ask for different sequences' at once.
  engine::ChoiceRules RulesOf(const Row& row);
  // Result: false if a logit is not finite.
  bool ChooseOne(const Wanted& wanted, std::span<float> logits, engine::Sampler& sampler,
                 engine::ItemResult& item);
  void MarkBadLogits(Row& row) const;

  const model::Model& model_;
  const std::vector<plan::RankShard> shards_;
  const plan::RankShard shard_;
  const RankOptions options_;
  const cpu::KernelTable& kernels_;
  device::ThreadTeam& team_;
  comm::Communicator& group_;
  comm::Communicator& stage_;
  const bool first_stage_;
  const bool last_stage_;
  const bool reports_;  // The first rank of the last stage returns the results.
  const bool fast_;     // Sums cross the cut as floats.

  ShardWeights weights_;
  KvPool kv_pool_;
  math::RopeTable rope_;
  std::string numerics_id_;
  SequenceTable sequences_;
  Activations activations_;
  std::vector<Row> rows_;
  std::vector<Row> dropped_bad_rows_;  // Of this step, where its last layer needed them no more.
  int64_t mapped_embeddings_ = 0;      // Rows read since their pages were released.
  bool scattered_ = false;             // Rows are dealt to the stage's ranks in this step;
  plan::Range own_rows_;  // this rank finishes these, and only their residuals are current.
  std::vector<RowsCall> attention_calls_;
  std::vector<Wanted> by_maximum_;  // Rows whose token the ranks' maxima decide;
  std::vector<Wanted> from_all_;    // those that need all logits in one place.
  std::vector<engine::Candidate> candidates_;
  std::vector<engine::Sampler> samplers_;        // By thread.
  std::vector<engine::TokenHistory> histories_;  // By slot; of sequences with penalties.
  std::vector<int64_t> choice_begins_;
  std::vector<int64_t> counts_;  // Of a collective, per rank of the stage.
  engine::GrammarCache grammar_cache_;
  std::vector<std::optional<engine::GrammarState>> grammars_;  // By slot; of those that have one.
};

}  // namespace shoal::forward
