#include "worker/forward/layer/embedding.h"

#include "parallel/model/files/mapped_file.h"

namespace shoal::forward {
namespace {

// Rows that may be read between two releases of their pages. The kernel maps many pages around each
// that is touched, 64 KiB or, with large folios, 2 MiB.
constexpr int64_t kMappedRows = 64;

}  // namespace

void Embedding::Run(Ops& ops, StageExchange& exchange, Activations& activations,
                    const RowTile& all_rows) {
  ops.Embed(table_, held_, all_rows);
  mapped_rows_ += all_rows.rows.count();
  if (mapped_rows_ >= kMappedRows) {
    model::ReleasePages({table_.data, static_cast<size_t>(table_.bytes())});
    mapped_rows_ = 0;
  }
  exchange.TakeFromHolders(activations.residual.data(), ops.hidden_dim(),
                           activations.all.fixed.data());
}

}  // namespace shoal::forward
