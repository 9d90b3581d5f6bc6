#pragma once

// The variants: the operations of a forward pass, one complete table of functions for each
// instruction set. Every variant computes the same bits (kernels/ARITHMETIC.md is the contract);
// main() picks one and hands it down.
//
// No function allocates, throws or starts threads: callers split rows, panels or heads over a
// ThreadTeam. Pointers need no alignment beyond their type's, except PackedMatrix (64 bytes).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/probe/probe_kernels.h"
#include "kernels/cpu/quantize/quantize.h"
#include "kernels/cpu/rows/rows.h"
#include "kernels/math/choice.h"

namespace shoal::cpu {

// CPU features, as bits.
enum CpuFeature : uint32_t {
  kBaseline = 0,
  kAvx2 = 1u << 0,        // AVX2, FMA and F16C.
  kAvx512Vnni = 1u << 1,  // AVX-512 F, BW, DQ, VL and VNNI.
  kAmxInt8 = 1u << 2,     // AMX-TILE and AMX-INT8, with the kernel's permission to use tiles.
};

// One variant: a struct of functions for each family of operations.
struct KernelTable {
  std::string_view name;
  uint32_t required_features;
  // What the entries do not show: calls that an entry passes on to another variant. A line of text.
  std::string_view note;

  LinearKernels linear;
  QuantizeKernels quantize;
  RowKernels rows;
  AttentionKernels attention;
  math::ChoiceKernels choice;
  ProbeKernels probe;
};

// Every variant of this build, fastest first. The scalar one is last and always runs.
std::span<const KernelTable> AllKernelTables();

// A function of a forward pass. What it is called, and its address, for comparison only.
struct KernelEntry {
  std::string name;
  void (*function)();
};

// All of the table's but the probe's, in the same order for every table.
std::vector<KernelEntry> EntriesOf(const KernelTable& table);

// Bits of CpuFeature that this machine and its operating system support. Asks Linux for permission
// to use tiles, for this process and its threads, if there are any.
uint32_t DetectCpuFeatures();

// The first variant that runs with `features`, or the one called `forced` if that is not empty (the
// SHOAL_FORCE_ISA variable). A pure function of its arguments; never falls back silently.
// Errors: kInvalidArgument if no variant has that name; kMissingHardware if `features` lack what it
// needs; kFailed if this machine's arithmetic is not the contract's.
const KernelTable& SelectKernelTable(uint32_t features, std::string_view forced);

}  // namespace shoal::cpu
