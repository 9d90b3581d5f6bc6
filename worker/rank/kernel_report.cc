// Entries are compared as addresses: an instruction set that borrows a scalar function shows it.

#include "worker/rank/kernel_report.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::rank {
namespace {

class Lines {
 public:
  template <typename Function>
  void Add(const std::string& name, Function own, Function scalar) {
    text_ += "  " + name + std::string(name.size() < 24 ? 24 - name.size() : 1, ' ') +
             (own == scalar ? "scalar" : "own") + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string Entries(const cpu::KernelTable& table, const cpu::KernelTable& scalar) {
  Lines lines;
  for (int i = 0; i < kDTypeCount; ++i) {
    const std::string dtype(ToString(static_cast<DType>(i)));
    lines.Add("linear " + dtype, table.linear[i], scalar.linear[i]);
    lines.Add("leaf_linear " + dtype, table.leaf_linear[i], scalar.leaf_linear[i]);
  }
  lines.Add("quantize_row", table.quantize_row, scalar.quantize_row);
  lines.Add("rms_norm", table.rms_norm, scalar.rms_norm);
  lines.Add("rope_adjacent", table.rope_adjacent, scalar.rope_adjacent);
  lines.Add("rope_half_split", table.rope_half_split, scalar.rope_half_split);
  lines.Add("silu_mul", table.silu_mul, scalar.silu_mul);
  lines.Add("add_fixed", table.add_fixed, scalar.add_fixed);
  lines.Add("store_kv", table.store_kv, scalar.store_kv);
  lines.Add("attention", table.attention, scalar.attention);
  return lines.text();
}

}  // namespace

std::string KernelReport(std::span<const cpu::KernelTable> tables, uint32_t features) {
  const auto scalar = std::find_if(tables.begin(), tables.end(), [](const cpu::KernelTable& table) {
    return table.name == "scalar";
  });
  SHOAL_CHECK(scalar != tables.end(), "there is no scalar table");
  std::string report;
  for (const cpu::KernelTable& table : tables) {
    const bool runs = (table.required_features & ~features) == 0;
    report += std::string(table.name) + (runs ? ": runs here\n" : ": this machine lacks it\n");
    report += Entries(table, *scalar);
  }
  return report;
}

}  // namespace shoal::rank
