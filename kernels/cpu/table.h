#pragma once

// The operations of a forward pass, one complete row of functions per instruction set. Every row
// computes the same bits (kernels/README.md is the contract); main() picks one and hands it down.
//
// None of them allocates, throws or starts threads: callers split rows, panels or heads over a
// ThreadTeam. Pointers need no alignment beyond their type's, except PackedMatrix (64 bytes).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/format/packed.h"
#include "kernels/math/choice.h"

namespace shoal::cpu {

// CPU features, as bits.
enum CpuFeature : uint32_t {
  kBaseline = 0,
  kAvx2 = 1u << 0,        // AVX2, FMA and F16C.
  kAvx512Vnni = 1u << 1,  // AVX-512 F, BW, DQ, VL and VNNI.
  kAmxInt8 = 1u << 2,     // AMX-TILE and AMX-INT8, with the kernel's permission to use tiles.
};

// Outputs [16 * panel_begin, 16 * panel_end) of every activation row in [row_begin, row_end).
struct LinearCall {
  const PackedMatrix* weights;
  const ActivationRows* input;  // input->cols == weights->cols
  int64_t row_begin, row_end;
  int64_t panel_begin, panel_end;
  float* output;  // Output o of row r: output[r * output_stride + o]; padding is not written.
  int64_t output_stride;
};

// A row-parallel layer: K is cut into leaves of leaf_cols (the last may be shorter); each leaf's
// f32 result is converted to fixed point and added. Weights that quantise whole rows give the exact
// dot products over all of K instead, without leaves or limit, for add_dots to scale.
struct LeafLinearCall {
  const PackedMatrix* weights;
  const ActivationRows* input;
  int64_t row_begin, row_end;
  int64_t panel_begin, panel_end;
  int64_t leaf_cols;
  float limit;      // 2^(30 - ceil(log2(leaves of the whole sum)))
  int64_t* output;  // As LinearCall's; written, not added to.
  int64_t output_stride;
  // [rows]: counts, atomically, the outputs' leaves with |y| >= limit or NaN; they add nothing.
  int64_t* invalid;
};

// Attention of consecutive query rows of one sequence over the query heads that read one kv head.
struct AttentionCall {
  KvDType dtype;
  int64_t head_dim;
  int64_t head_count;      // Query heads here.
  int64_t position_begin;  // Of the first query row; row r sees keys 0..position_begin + r.
  int64_t row_count;
  const float* query;  // Row r, head h: query + r * query_stride + h * head_dim
  int64_t query_stride;
  float* output;  // Likewise, with output_stride.
  int64_t output_stride;
  const std::byte* blocks;  // This layer's and kv head's part of block b: blocks + b * block_stride
  int64_t block_stride;     // Bytes.
  const int32_t* block_table;  // [positions / 32]: the sequence's blocks.
  // Bytes from this kv head's part of a block to that of the call which comes next and reads the
  // same blocks, or 0. It is prefetched.
  int64_t next_head_offset = 0;
  float* scratch;  // [AttentionScratchFloats(head_dim, head_count)], the caller's own.
};

constexpr int64_t kSegmentKeys = 256;
constexpr int64_t kSpanKeys = 8192;

// Room for any row's attention; generous, so that rows and heads can be blocked.
constexpr int64_t AttentionScratchFloats(int64_t head_dim, int64_t head_count) {
  return 16 * head_count * (kSegmentKeys + 3 * head_dim + 16);
}

struct KernelTable {
  std::string_view name;
  uint32_t required_features;
  // What the entries do not show: calls that an entry passes on to another row. A line of text.
  std::string_view note;

  // By the weights' DType.
  void (*linear[kDTypeCount])(const LinearCall& call);
  void (*leaf_linear[kDTypeCount])(const LeafLinearCall& call);

  // Quantises one row: quants [cols], scales [cols / 32], sums [cols / 32]. cols is a multiple
  // of 32.
  void (*quantize_row)(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums);

  // The same in groups of `group`, a multiple of 16 as cols is; the last may be shorter. Scales and
  // sums: one for each group.
  void (*quantize_groups)(const float* x, int64_t cols, int64_t group, int8_t* quants,
                          float* scales, int32_t* sums);

  // The largest magnitude among a row's, as bits without the sign: every NaN is above infinity.
  uint32_t (*largest_bits)(const float* x, int64_t cols);

  // Quantises count floats, a multiple of 16, as part of a group that has this largest magnitude.
  void (*quantize_group)(const float* x, int64_t count, uint32_t largest_bits, int8_t* quants,
                         float* scale, int32_t* sum);

  // y[i] = (x[i] * r) * weight[i], r = 1 / sqrt(mean of squares + epsilon). y may be x.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t cols, float* y);

  // Rotates one head in place. cos, sin: [head_dim / 2] of this position.
  void (*rope_adjacent)(float* head, const float* cos, const float* sin, int64_t head_dim);
  void (*rope_half_split)(float* head, const float* cos, const float* sin, int64_t head_dim);

  // y[i] = silu(gate[i]) * up[i].
  void (*silu_mul)(const float* gate, const float* up, int64_t cols, float* y);

  // residual[i] += float(double(sum[i]) * 2^-32).
  void (*add_fixed)(const int64_t* sum, int64_t cols, float* residual);

  // Of weights that quantise whole rows: residual[o] += the dot product dots[o] of output o and a
  // row of this scale, scaled. Result: how many of the products are NaN or not below 2^30.
  int64_t (*add_dots)(const int64_t* dots, const PackedMatrix& weights, float scale,
                      float* residual);

  // Stores one position of one kv head into its cache block; `slot` is the position modulo 32.
  // Result: how many elements overflowed the cache's dtype (or were not finite).
  int64_t (*store_kv)(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                      int64_t slot, std::byte* block);

  void (*attention)(const AttentionCall& call);

  math::ChoiceKernels choice;
};

// Every row with its entries, a line each, then those that are another row's own, and its note.
std::string DescribeKernelTables();

// Every row of this build, fastest first. The scalar row is last and always runs.
std::span<const KernelTable> AllKernelTables();

// Bits of CpuFeature that this machine and its operating system support. Asks Linux for permission
// to use tiles, for this process and its threads, if there are any.
uint32_t DetectCpuFeatures();

// The first row that runs with `features`, or the row called `forced` if that is not empty (the
// SHOAL_FORCE_ISA variable). A pure function of its arguments; never falls back silently.
// Errors: kInvalidArgument if no row has that name; kMissingHardware if `features` lack what it
// needs or this build lacks the row; kFailed if this machine's arithmetic is not the contract's.
const KernelTable& SelectKernelTable(uint32_t features, std::string_view forced);

}  // namespace shoal::cpu
