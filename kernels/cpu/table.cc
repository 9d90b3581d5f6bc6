// The function tables, one complete row per instruction set, and the choice between them.

#include "kernels/cpu/table.h"

#include "kernels/cpu/linear_variants.h"
#include "kernels/cpu/variants.h"
#include "transport/base/error.h"

namespace shoal::cpu {
namespace {

// Indices of linear and leaf_linear follow DType: F32, F16, BF16, Q8_0, Q4_0, Q4_1.
constexpr KernelTable kTables[] = {
    {
        .name = "scalar",
        .required_features = kBaseline,
        .linear = {LinearF32Scalar, LinearF16Scalar, LinearBF16Scalar, LinearQ8_0Scalar,
                   LinearQ4_0Scalar, LinearQ4_1Scalar},
        .leaf_linear = {LeafLinearF32Scalar, LeafLinearF16Scalar, LeafLinearBF16Scalar,
                        LeafLinearQ8_0Scalar, LeafLinearQ4_0Scalar, LeafLinearQ4_1Scalar},
        .quantize_row = QuantizeRowScalar,
        .rms_norm = RmsNormScalar,
        .rope_adjacent = RopeAdjacentScalar,
        .rope_half_split = RopeHalfSplitScalar,
        .silu_mul = SiluMulScalar,
        .add_fixed = AddFixedScalar,
        .store_kv = StoreKvScalar,
        .attention = AttentionScalar,
    },
};

// Rows that later builds have; asking for one is asking for something this machine lacks.
constexpr std::string_view kKnownElsewhere[] = {"amx"};

bool Runs(const KernelTable& table, uint32_t features) {
  return (table.required_features & features) == table.required_features;
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
  return features;
}

const KernelTable& SelectKernelTable(uint32_t features, std::string_view forced) {
  for (const KernelTable& table : kTables) {
    if (!forced.empty() && table.name != forced) continue;
    if (Runs(table, features)) return table;
    if (!forced.empty()) {
      Throw(ErrorCode::kMissingHardware, "SHOAL_FORCE_ISA=", forced,
            ": this processor lacks the instructions; unset it, or choose one of `shoal-worker "
            "kernels` that runs here");
    }
  }
  for (const std::string_view name : kKnownElsewhere) {
    if (forced == name) {
      Throw(ErrorCode::kMissingHardware, "SHOAL_FORCE_ISA=", forced,
            ": this build has no such kernels, only ", Names());
    }
  }
  Throw(ErrorCode::kInvalidArgument, "SHOAL_FORCE_ISA=", forced, ": expected one of ", Names());
}

}  // namespace shoal::cpu
