#pragma once

// Weights and activations for the tests of linear layers.

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/table.h"

namespace shoal::cpu {

enum class Values : uint8_t {
  kOrdinary,  // Around one.
  kExtreme,   // Zero groups, subnormals, overflow, the largest quants; activations also NaN and
              // infinity.
};

// A tensor as it lies in a file, whose rows are whole blocks: `cols` may be fewer than they hold.
struct FileTensor {
  DType dtype;
  int64_t rows;
  int64_t cols;
  std::vector<std::byte> bytes;

  int64_t row_bytes() const { return BlocksOf(dtype, 0, cols).end; }
};

FileTensor RandomTensor(DType dtype, int64_t rows, int64_t cols, Values values,
                        std::mt19937& random);

// The tensor's weight as a double, straight from the file's bytes.
double WeightAt(const FileTensor& tensor, int64_t row, int64_t col);

// Columns [col_begin, col_begin + cols) of a tensor, packed.
class PackedTensor {
 public:
  PackedTensor(const FileTensor& tensor, int64_t col_begin, int64_t cols);
  explicit PackedTensor(const FileTensor& tensor) : PackedTensor(tensor, 0, tensor.cols) {}

  const PackedMatrix& matrix() const { return matrix_; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  PackedMatrix matrix_;
};

// Activation rows with their quantised forms, as far as cols is a multiple of the group.
class Activations {
 public:
  Activations(int64_t rows, int64_t cols, std::vector<float> values);

  // As weights of `dtype` read them.
  const ActivationRows& rows(DType dtype = DType::kQ8_0) const;
  // Columns [begin, begin + cols) of rows that stay whole where they are quantised as such.
  Activations Columns(int64_t begin, int64_t cols) const;

 private:
  struct Quantized {
    std::vector<int8_t> quants;
    std::vector<float> scales;
    std::vector<int32_t> sums;
    ActivationRows rows;
  };

  int64_t row_count_;
  int64_t cols_;
  std::vector<float> values_;
  std::vector<uint32_t> largest_bits_;             // Of each row.
  mutable std::map<int64_t, Quantized> by_group_;  // Made when asked for.
};

// The fewest whole groups of `dtype` that hold `cols`.
int64_t WholeGroups(DType dtype, int64_t cols);

std::vector<float> RandomValues(int64_t count, Values values, std::mt19937& random);

// Equal bits tell equal results, except that all NaNs are one.
uint32_t BitsOf(float value);

struct LeafResult {
  std::vector<int64_t> sums;
  std::vector<int64_t> invalid;
  bool operator==(const LeafResult&) const = default;
};

// All outputs of all rows.
std::vector<uint32_t> RunLinear(const KernelTable& variant, const PackedMatrix& weights,
                                const Activations& input);
LeafResult RunLeafLinear(const KernelTable& variant, const PackedMatrix& weights,
                         const Activations& input, int64_t leaf_cols, float limit);

}  // namespace shoal::cpu
