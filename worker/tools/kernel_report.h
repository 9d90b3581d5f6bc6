#pragma once

// `shoal-worker kernels`: which functions each instruction set brings of its own.

#include <cstdint>
#include <span>
#include <string>

#include "kernels/cpu/table.h"

namespace shoal::rank {

// One paragraph for each table, which are sorted fastest first and end with the scalar one: its
// name, whether it runs with `features`, each entry with "own" or the name of the slower table
// whose function it is, and the table's note.
std::string KernelReport(std::span<const cpu::KernelTable> tables, uint32_t features);

}  // namespace shoal::rank
