#include "worker/tools/kernel_report.h"

#include <vector>

#include "transport/base/check.h"

// Entries are compared as addresses: a variant that borrows a slower one's function shows it.

namespace shoal::rank {
namespace {

// The table's entries; `slower`, fastest first, are those that it may have borrowed from.
std::string Entries(const cpu::KernelTable& table, std::span<const cpu::KernelTable> slower) {
  std::vector<std::vector<cpu::KernelEntry>> others;
  for (const cpu::KernelTable& other : slower) others.push_back(cpu::EntriesOf(other));
  const std::vector<cpu::KernelEntry> entries = cpu::EntriesOf(table);
  std::string text;
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto& [name, function] = entries[i];
    std::string_view owner = slower.empty() ? table.name : "own";
    for (size_t other = 0; other < others.size(); ++other) {
      if (others[other][i].function == function) owner = slower[other].name;
    }
    text += "  " + name + std::string(name.size() < 24 ? 24 - name.size() : 1, ' ');
    text += owner;
    text += '\n';
  }
  return text;
}

}  // namespace

std::string KernelReport(std::span<const cpu::KernelTable> tables, uint32_t features) {
  SHOAL_CHECK(!tables.empty() && tables.back().name == "scalar", "the last table is not scalar");
  std::string report;
  for (size_t i = 0; i < tables.size(); ++i) {
    const cpu::KernelTable& table = tables[i];
    const bool runs = (table.required_features & ~features) == 0;
    report += std::string(table.name) + (runs ? ": runs here\n" : ": this machine lacks it\n");
    report += Entries(table, tables.subspan(i + 1));
    if (!table.note.empty()) report += "  " + std::string(table.note) + "\n";
  }
  return report;
}

}  // namespace shoal::rank
