#pragma once

// `shoal-worker kernels`: which functions each instruction set brings of its own.

#include <cstdint>
#include <span>
#include <string>

#include "kernels/cpu/table.h"

namespace shoal::rank {

// One paragraph for each table: its name, whether it runs with `features`, and each entry with
// "own", or "scalar" if it is the scalar table's, which must be among the tables.
std::string KernelReport(std::span<const cpu::KernelTable> tables, uint32_t features);

}  // namespace shoal::rank
