// The one place where variants are put together from the families' functions, and chosen.

#include "kernels/cpu/table.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <initializer_list>

#include "kernels/cpu/choice/choice.h"
#include "kernels/math/scalar.h"
#include "transport/base/error.h"

namespace shoal::cpu {
namespace {

// Of each format the last file's functions that has some.
LinearKernels Together(std::initializer_list<const LinearKernels*> files) {
  LinearKernels all = {};
  for (const LinearKernels* file : files) {
    for (int i = 0; i < kDTypeCount; ++i) {
      if (file->whole[i] != nullptr) all.whole[i] = file->whole[i];
      if (file->leaves[i] != nullptr) all.leaves[i] = file->leaves[i];
    }
  }
  return all;
}

KernelTable Scalar() {
  return {.name = "scalar",
          .required_features = kBaseline,
          .note = "",
          .linear = kLinearScalar,
          .quantize = kQuantizeScalar,
          .rows = kRowsScalar,
          .attention = kAttentionScalar,
          .choice = math::kScalarChoice,
          .probe = kProbeScalar};
}

KernelTable Avx2() {
  return {.name = "avx2",
          .required_features = kAvx2,
          .note = "",
          .linear = Together({&kLinearFloatAvx2, &kLinearQuantAvx2, &kLinearGroupsAvx2}),
          .quantize = kQuantizeAvx2,
          .rows = kRowsAvx2,
          .attention = kAttentionAvx2,
          .choice = kChoiceAvx2,
          .probe = kProbeAvx2};
}

KernelTable Avx512Vnni() {
  return {.name = "avx512vnni",
          .required_features = kAvx2 | kAvx512Vnni,
          .note = "",
          .linear = Together({&kLinearFloatAvx512, &kLinearQ8_0Avx512, &kLinearQ4_0Avx512,
                              &kLinearQ4_1Avx512, &kLinearGroupsAvx512}),
          .quantize = kQuantizeAvx512,
          .rows = kRowsAvx512,
          .attention = kAttentionAvx512,
          .choice = kChoiceAvx512,
          .probe = kProbeAvx512};
}

// All of avx512vnni but what tiles do better.
KernelTable Amx() {
  KernelTable table = Avx512Vnni();
  table.name = "amx";
  table.required_features |= kAmxInt8;
  table.note =
      "linear layers of fewer than 10 rows (INT8: 8) run the avx512vnni variant's functions";
  table.linear = Together({&table.linear, &kLinearAmx});
  table.probe.byte_dots = kProbeAmx.byte_dots;
  table.probe.byte_dot_ops = kProbeAmx.byte_dot_ops;
  return table;
}

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

std::string Names() {
  std::string names;
  for (const KernelTable& table : AllKernelTables()) {
    names += names.empty() ? "" : ", ";
    names += table.name;
  }
  return names;
}

}  // namespace

std::span<const KernelTable> AllKernelTables() {
  static const std::array tables = {Amx(), Avx512Vnni(), Avx2(), Scalar()};
  return tables;
}

std::vector<KernelEntry> EntriesOf(const KernelTable& table) {
  std::vector<KernelEntry> entries;
  const auto add = [&](std::string name, auto function) {
    entries.push_back({std::move(name), reinterpret_cast<void (*)()>(function)});
  };
  for (int i = 0; i < kDTypeCount; ++i) {
    const std::string_view dtype = ToString(static_cast<DType>(i));
    add(Str("linear ", dtype), table.linear.whole[i]);
    add(Str("leaf_linear ", dtype), table.linear.leaves[i]);
  }
  add("quantize_row", table.quantize.row);
  add("quantize_groups", table.quantize.groups);
  add("largest_bits", table.quantize.largest_bits);
  add("quantize_group", table.quantize.group);
  add("rms_norm", table.rows.rms_norm);
  add("rope_adjacent", table.rows.rope_adjacent);
  add("rope_half_split", table.rows.rope_half_split);
  add("silu_mul", table.rows.silu_mul);
  add("add_fixed", table.rows.add_fixed);
  add("add_dots", table.rows.add_dots);
  add("store_kv", table.rows.store_kv);
  add("attention", table.attention.attend);
  add("largest_logit", table.choice.largest);
  add("sum_weights", table.choice.weights);
  add("noisy_tokens", table.choice.noisy);
  return entries;
}

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
  for (const KernelTable& table : AllKernelTables()) {
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
