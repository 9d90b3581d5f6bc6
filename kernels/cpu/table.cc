// The function tables, one complete row per instruction set, and the choice between them.

#include "kernels/cpu/table.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "kernels/cpu/linear_variants.h"
#include "kernels/cpu/variants.h"
#include "kernels/math/scalar.h"
#include "transport/base/error.h"

namespace shoal::cpu {
namespace {

// Indices of linear and leaf_linear follow DType: F32, F16, BF16, Q8_0, Q4_0, Q4_1, and the formats
// that one function serves.
constexpr KernelTable kTables[] = {
    {
        .name = "amx",
        .required_features = kAvx2 | kAvx512Vnni | kAmxInt8,
        .note = "linear layers of fewer than 10 rows (INT8: 8) run the avx512vnni row's functions",
        .linear = {LinearF32Avx512, LinearF16Avx512, LinearBF16Avx512, LinearQ8_0Amx, LinearQ4_0Amx,
                   LinearQ4_1Amx, LinearGroupsAvx512, LinearGroupsAvx512, LinearGroupsAvx512,
                   LinearGroupsAvx512, LinearGroupsAvx512, LinearGroupsAvx512, LinearGroupsAvx512,
                   LinearGroupsAvx512, LinearInt8Amx},
        .leaf_linear = {LeafLinearF32Avx512, LeafLinearF16Avx512, LeafLinearBF16Avx512,
                        LeafLinearQ8_0Amx, LeafLinearQ4_0Amx, LeafLinearQ4_1Amx,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, LeafLinearGroupsAvx512,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, LeafLinearGroupsAvx512,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, RowDotsInt8Amx},
        .quantize_row = QuantizeRowAvx512,
        .quantize_groups = QuantizeGroupsAvx512,
        .largest_bits = LargestBitsAvx512,
        .quantize_group = QuantizeGroupAvx512,
        .rms_norm = RmsNormAvx512,
        .rope_adjacent = RopeAdjacentAvx512,
        .rope_half_split = RopeHalfSplitAvx512,
        .silu_mul = SiluMulAvx512,
        .add_fixed = AddFixedAvx512,
        .add_dots = AddDotsAvx512,
        .store_kv = StoreKvAvx512,
        .attention = AttentionAvx512,
        .choice = {FindLargestLogitAvx512, SumWeightsAvx512, ListNoisyTokensAvx512},
    },
    {
        .name = "avx512vnni",
        .required_features = kAvx2 | kAvx512Vnni,
        .note = "",
        .linear = {LinearF32Avx512, LinearF16Avx512, LinearBF16Avx512, LinearQ8_0Avx512,
                   LinearQ4_0Avx512, LinearQ4_1Avx512, LinearGroupsAvx512, LinearGroupsAvx512,
                   LinearGroupsAvx512, LinearGroupsAvx512, LinearGroupsAvx512, LinearGroupsAvx512,
                   LinearGroupsAvx512, LinearGroupsAvx512, LinearInt8Avx512},
        .leaf_linear = {LeafLinearF32Avx512, LeafLinearF16Avx512, LeafLinearBF16Avx512,
                        LeafLinearQ8_0Avx512, LeafLinearQ4_0Avx512, LeafLinearQ4_1Avx512,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, LeafLinearGroupsAvx512,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, LeafLinearGroupsAvx512,
                        LeafLinearGroupsAvx512, LeafLinearGroupsAvx512, RowDotsInt8Avx512},
        .quantize_row = QuantizeRowAvx512,
        .quantize_groups = QuantizeGroupsAvx512,
        .largest_bits = LargestBitsAvx512,
        .quantize_group = QuantizeGroupAvx512,
        .rms_norm = RmsNormAvx512,
        .rope_adjacent = RopeAdjacentAvx512,
        .rope_half_split = RopeHalfSplitAvx512,
        .silu_mul = SiluMulAvx512,
        .add_fixed = AddFixedAvx512,
        .add_dots = AddDotsAvx512,
        .store_kv = StoreKvAvx512,
        .attention = AttentionAvx512,
        .choice = {FindLargestLogitAvx512, SumWeightsAvx512, ListNoisyTokensAvx512},
    },
    {
        .name = "avx2",
        .required_features = kAvx2,
        .note = "",
        .linear = {LinearF32Avx2, LinearF16Avx2, LinearBF16Avx2, LinearQ8_0Avx2, LinearQ4_0Avx2,
                   LinearQ4_1Avx2, LinearGroupsAvx2, LinearGroupsAvx2, LinearGroupsAvx2,
                   LinearGroupsAvx2, LinearGroupsAvx2, LinearGroupsAvx2, LinearGroupsAvx2,
                   LinearGroupsAvx2, LinearInt8Avx2},
        .leaf_linear = {LeafLinearF32Avx2, LeafLinearF16Avx2, LeafLinearBF16Avx2,
                        LeafLinearQ8_0Avx2, LeafLinearQ4_0Avx2, LeafLinearQ4_1Avx2,
                        LeafLinearGroupsAvx2, LeafLinearGroupsAvx2, LeafLinearGroupsAvx2,
                        LeafLinearGroupsAvx2, LeafLinearGroupsAvx2, LeafLinearGroupsAvx2,
                        LeafLinearGroupsAvx2, LeafLinearGroupsAvx2, RowDotsInt8Avx2},
        .quantize_row = QuantizeRowAvx2,
        .quantize_groups = QuantizeGroupsAvx2,
        .largest_bits = LargestBitsAvx2,
        .quantize_group = QuantizeGroupAvx2,
        .rms_norm = RmsNormAvx2,
        .rope_adjacent = RopeAdjacentAvx2,
        .rope_half_split = RopeHalfSplitAvx2,
        .silu_mul = SiluMulAvx2,
        .add_fixed = AddFixedAvx2,
        .add_dots = AddDotsAvx2,
        .store_kv = StoreKvAvx2,
        .attention = AttentionAvx2,
        .choice = {FindLargestLogitAvx2, SumWeightsAvx2, ListNoisyTokensAvx2},
    },
    {
        .name = "scalar",
        .required_features = kBaseline,
        .note = "",
        .linear = {LinearF32Scalar, LinearF16Scalar, LinearBF16Scalar, LinearQ8_0Scalar,
                   LinearQ4_0Scalar, LinearQ4_1Scalar, LinearGroupsScalar, LinearGroupsScalar,
                   LinearGroupsScalar, LinearGroupsScalar, LinearGroupsScalar, LinearGroupsScalar,
                   LinearGroupsScalar, LinearGroupsScalar, LinearInt8Scalar},
        .leaf_linear = {LeafLinearF32Scalar, LeafLinearF16Scalar, LeafLinearBF16Scalar,
                        LeafLinearQ8_0Scalar, LeafLinearQ4_0Scalar, LeafLinearQ4_1Scalar,
                        LeafLinearGroupsScalar, LeafLinearGroupsScalar, LeafLinearGroupsScalar,
                        LeafLinearGroupsScalar, LeafLinearGroupsScalar, LeafLinearGroupsScalar,
                        LeafLinearGroupsScalar, LeafLinearGroupsScalar, RowDotsInt8Scalar},
        .quantize_row = QuantizeRowScalar,
        .quantize_groups = QuantizeGroupsScalar,
        .largest_bits = LargestBitsScalar,
        .quantize_group = QuantizeGroupScalar,
        .rms_norm = RmsNormScalar,
        .rope_adjacent = RopeAdjacentScalar,
        .rope_half_split = RopeHalfSplitScalar,
        .silu_mul = SiluMulScalar,
        .add_fixed = AddFixedScalar,
        .add_dots = AddDotsScalar,
        .store_kv = StoreKvScalar,
        .attention = AttentionScalar,
        .choice = math::kScalarChoice,
    },
};

// Linux gives a process the tiles' large register file only when asked.
bool TilesArePermitted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
}

bool Runs(const KernelTable& table, uint32_t features) {
  return (table.required_features & features) == table.required_features;
}

// An entry as text, and whether it is `other`'s own function.
struct Entry {
  std::string name;
  bool is_shared;
};

std::vector<Entry> Entries(const KernelTable& table, const KernelTable& other) {
  std::vector<Entry> entries;
  for (int i = 0; i < kDTypeCount; ++i) {
    const std::string_view dtype = ToString(static_cast<DType>(i));
    entries.push_back({Str("linear ", dtype), table.linear[i] == other.linear[i]});
    entries.push_back({Str("leaf_linear ", dtype), table.leaf_linear[i] == other.leaf_linear[i]});
  }
  entries.push_back({"quantize_row", table.quantize_row == other.quantize_row});
  entries.push_back({"quantize_groups", table.quantize_groups == other.quantize_groups});
  entries.push_back({"largest_bits", table.largest_bits == other.largest_bits});
  entries.push_back({"quantize_group", table.quantize_group == other.quantize_group});
  entries.push_back({"rms_norm", table.rms_norm == other.rms_norm});
  entries.push_back({"rope_adjacent", table.rope_adjacent == other.rope_adjacent});
  entries.push_back({"rope_half_split", table.rope_half_split == other.rope_half_split});
  entries.push_back({"silu_mul", table.silu_mul == other.silu_mul});
  entries.push_back({"add_fixed", table.add_fixed == other.add_fixed});
  entries.push_back({"add_dots", table.add_dots == other.add_dots});
  entries.push_back({"store_kv", table.store_kv == other.store_kv});
  entries.push_back({"attention", table.attention == other.attention});
  entries.push_back({"largest_logit", table.choice.largest == other.choice.largest});
  entries.push_back({"sum_weights", table.choice.weights == other.choice.weights});
  entries.push_back({"noisy_tokens", table.choice.noisy == other.choice.noisy});
  return entries;
}

std::string SharedEntries(const KernelTable& table, const KernelTable& other) {
  std::string names;
  for (const Entry& entry : Entries(table, other)) {
    if (entry.is_shared) names += Str(names.empty() ? "" : ", ", entry.name);
  }
  return names;
}

std::string Names() {
  std::string names;
  for (const KernelTable& table : kTables) {
    names += names.empty() ? "" : ", ";
    names += table.name;
  }
  return names;
}

}  // namespace

std::string DescribeKernelTables() {
  const uint32_t features = DetectCpuFeatures();
  const KernelTable& scalar = AllKernelTables().back();
  std::string text;
  for (const KernelTable& table : kTables) {
    text += Str(table.name, Runs(table, features) ? "" : " (does not run on this machine)", "\n");
    for (const Entry& entry : Entries(table, scalar)) text += Str("  ", entry.name, "\n");
    if (!table.note.empty()) text += Str("  note: ", table.note, "\n");
    // A row borrows from slower ones, which stand below it.
    for (const KernelTable* other = &table + 1; other <= &scalar; ++other) {
      const std::string shared = SharedEntries(table, *other);
      if (!shared.empty()) text += Str("  ", other->name, " entries: ", shared, "\n");
      if (shared.empty() && other == &scalar) text += "  scalar entries: none\n";
    }
  }
  return text;
}

std::span<const KernelTable> AllKernelTables() { return kTables; }

uint32_t DetectCpuFeatures() {
  // These ask the operating system too: a register file it does not save counts as absent.
  uint32_t features = kBaseline;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    features |= kAvx2;
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    features |= kAvx512Vnni;
  }
  if (__builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
      TilesArePermitted()) {
    features |= kAmxInt8;
  }
  return features;
}

const KernelTable& SelectKernelTable(uint32_t features, std::string_view forced) {
  math::CheckArithmetic();
  for (const KernelTable& table : kTables) {
    if (!forced.empty() && table.name != forced) continue;
    if (Runs(table, features)) return table;
    if (!forced.empty()) {
      Throw(ErrorCode::kMissingHardware, "SHOAL_FORCE_ISA=", forced,
            ": this processor lacks the instructions; unset it, or choose one of `shoal-worker "
            "kernels` that runs here");
    }
  }
  Throw(ErrorCode::kInvalidArgument, "SHOAL_FORCE_ISA=", forced, ": expected one of ", Names());
}

}  // namespace shoal::cpu
