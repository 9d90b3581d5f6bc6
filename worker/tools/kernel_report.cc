// Entries are compared as addresses: an instruction set that borrows a slower one's function shows
// it.

#include "worker/tools/kernel_report.h"

#include "transport/base/check.h"

namespace shoal::rank {
namespace {

// One table's entries; `slower`, fastest first, are those that it may have borrowed from.
class Lines {
 public:
  explicit Lines(std::span<const cpu::KernelTable> slower) : slower_(slower) {}

  template <typename Entry>
  void Add(const std::string& name, const cpu::KernelTable& table, const Entry& entry) {
    std::string_view owner = table.name == "scalar" ? "scalar" : "own";
    for (const cpu::KernelTable& other : slower_) {
      if (entry(other) == entry(table)) owner = other.name;
    }
    text_ += "  " + name + std::string(name.size() < 24 ? 24 - name.size() : 1, ' ');
    text_ += owner;
    text_ += '\n';
  }
  const std::string& text() const { return text_; }

 private:
  std::span<const cpu::KernelTable> slower_;
  std::string text_;
};

std::string Entries(const cpu::KernelTable& table, std::span<const cpu::KernelTable> slower) {
  Lines lines(slower);
  for (int i = 0; i < kDTypeCount; ++i) {
    const std::string dtype(ToString(static_cast<DType>(i)));
    lines.Add("linear " + dtype, table, [i](const auto& row) { return row.linear[i]; });
    lines.Add("leaf_linear " + dtype, table, [i](const auto& row) { return row.leaf_linear[i]; });
  }
  lines.Add("quantize_row", table, [](const auto& row) { return row.quantize_row; });
  lines.Add("quantize_groups", table, [](const auto& row) { return row.quantize_groups; });
  lines.Add("rms_norm", table, [](const auto& row) { return row.rms_norm; });
  lines.Add("rope_adjacent", table, [](const auto& row) { return row.rope_adjacent; });
  lines.Add("rope_half_split", table, [](const auto& row) { return row.rope_half_split; });
  lines.Add("silu_mul", table, [](const auto& row) { return row.silu_mul; });
  lines.Add("add_fixed", table, [](const auto& row) { return row.add_fixed; });
  lines.Add("store_kv", table, [](const auto& row) { return row.store_kv; });
  lines.Add("attention", table, [](const auto& row) { return row.attention; });
  lines.Add("largest_logit", table, [](const auto& row) { return row.choice.largest; });
  lines.Add("sum_weights", table, [](const auto& row) { return row.choice.weights; });
  lines.Add("noisy_tokens", table, [](const auto& row) { return row.choice.noisy; });
  return lines.text();
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
