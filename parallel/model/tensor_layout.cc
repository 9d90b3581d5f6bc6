#include "parallel/model/tensor_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/format/half.h"
#include "parallel/model/files/refuse.h"

// Where tensors lie, and whether their scales can be used.

namespace shoal::model {

Tensor MakeTensor(std::string_view name, DType dtype, uint64_t rows, uint64_t cols,
                  const std::string& where) {
  // Any product of two such sizes and a group's bytes fits into int64: 2^31 * 2^31 / 2 at most.
  constexpr uint64_t kDimensionEnd = uint64_t{1} << 31;
  constexpr uint64_t kWeightsEnd = uint64_t{1} << 60;
  // The exact dot product of so many signed bytes fits into an int32.
  constexpr uint64_t kWholeRowsEnd = uint64_t{1} << 17;
  if (rows == 0 || cols == 0 || rows >= kDimensionEnd || cols >= kDimensionEnd ||
      rows * cols >= kWeightsEnd) {
    Refuse(where, "tensor ", Quoted(name), " has the shape ", rows, " x ", cols,
           ", expected dimensions from 1 to 2147483647: the file is damaged, fetch it again");
  }
  if (cols % static_cast<uint64_t>(BlockWeights(dtype)) != 0) {
    Refuse(where, "tensor ", Quoted(name), " is ", ToString(dtype), " with rows of ", cols,
           " weights, which is no multiple of the format's block of ", BlockWeights(dtype),
           ": convert this tensor to F16");
  }
  if (QuantizesWholeRows(dtype) && cols > kWholeRowsEnd) {
    Refuse(where, "tensor ", Quoted(name), " is ", ToString(dtype), " with rows of ", cols,
           " weights, expected at most ", kWholeRowsEnd, ": convert this tensor to Q8_0");
  }
  return {std::string(name), dtype, static_cast<int64_t>(rows), static_cast<int64_t>(cols),
          nullptr};
}

void PlaceTensor(Tensor& tensor, std::span<const std::byte> data, uint64_t offset,
                 const std::string& where) {
  const auto bytes = static_cast<uint64_t>(tensor.bytes());
  if (offset > data.size() || bytes > data.size() - offset) {
    Refuse(where, "tensor ", Quoted(tensor.name), " needs ", bytes, " bytes at data offset ",
           offset, ", the file has only ", data.size(),
           " bytes of data: it is cut short or damaged, fetch it again");
  }
  tensor.data = data.data() + offset;
}

void CheckNoOverlap(std::span<const Tensor> tensors, const std::string& where) {
  std::vector<const Tensor*> by_place;
  by_place.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    by_place.push_back(&tensor);
  }
  std::sort(by_place.begin(), by_place.end(),
            [](const Tensor* a, const Tensor* b) { return a->data < b->data; });
  for (size_t i = 1; i < by_place.size(); ++i) {
    if (by_place[i]->data < by_place[i - 1]->data + by_place[i - 1]->bytes()) {
      Refuse(where, "the tensors ", Quoted(by_place[i - 1]->name), " and ",
             Quoted(by_place[i]->name), " overlap: the file is damaged, fetch it again");
    }
  }
}

namespace {

// Formats with one f32 scale for each row.
void CheckRowScales(const Tensor& tensor, int64_t row_begin, int64_t row_end,
                    const std::string& where) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    float scale;
    std::memcpy(&scale, tensor.row(row), sizeof(scale));
    if (std::isfinite(scale)) continue;
    Refuse(where, "tensor ", Quoted(tensor.name), ", row ", row, ": the scale is ",
           std::isnan(scale) ? "not a number" : "infinite",
           ": the file is damaged, fetch it or convert the model again");
  }
}

}  // namespace

void CheckScales(const Tensor& tensor, int64_t row_begin, int64_t row_end,
                 const std::string& where) {
  SHOAL_CHECK(0 <= row_begin && row_begin <= row_end && row_end <= tensor.rows, "rows ", row_begin,
              " to ", row_end, " of ", tensor.rows, " in ", tensor.name);
  if (!IsQuantized(tensor.dtype)) {
    return;
  }
  if (FactsOf(tensor.dtype).row_factor_bytes != 0)
    return CheckRowScales(tensor, row_begin, row_end, where);
  const FactorOffsets offsets = FactorOffsetsOf(tensor.dtype);
  const int64_t block_bytes = BlockBytes(tensor.dtype);
  const int64_t row_blocks = tensor.cols / BlockWeights(tensor.dtype);
  const std::byte* block = tensor.row(row_begin);
  const auto check = [&](int64_t index, int64_t offset, std::string_view factor) {
    uint16_t bits;
    std::memcpy(&bits, block + offset, sizeof(bits));
    if (IsFiniteF16(bits)) return;
    Refuse(where, "tensor ", Quoted(tensor.name), ", row ", row_begin + index / row_blocks,
           ", block ", index % row_blocks, ": the ", factor, " is ",
           (bits & 0x3FFU) == 0 ? "infinite" : "not a number",
           ": the file is damaged, fetch it or convert the model again");
  };
  for (int64_t i = 0; i < (row_end - row_begin) * row_blocks; ++i, block += block_bytes) {
    check(i, offsets.scale, "scale");
    if (offsets.minimum >= 0) check(i, offsets.minimum, "minimum");
  }
}

}  // namespace shoal::model
