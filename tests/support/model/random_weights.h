#pragma once

// Random weights in every file format, from integers only up to one rounding, so that all machines
// make the same bytes.

#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/format/dtype.h"

namespace shoal::test {

// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
class RandomBits {
 public:
  explicit RandomBits(uint64_t seed) : state_(seed) {}

  uint64_t Next();
  // In [0, end), end > 0; the bias is below end / 2^64.
  uint64_t Below(uint64_t end) { return Next() % end; }

 private:
  uint64_t state_;
};

class RandomWeights {
 public:
  // Streams of different tensors do not depend on each other, nor on the tensors' order.
  RandomWeights(uint64_t seed, std::string_view tensor_name);

  // `deviation`: the weights' standard deviation; their mean is 0.
  std::string Matrix(DType dtype, int64_t rows, int64_t cols, double deviation);
  // Float formats only. In [0.75, 1.25).
  std::string Norm(DType dtype, int64_t cols);

 private:
  std::string FloatMatrix(DType dtype, int64_t count, double deviation);
  std::string QuantizedMatrix(DType dtype, int64_t block_count, double deviation);
  std::string KQuantMatrix(DType dtype, int64_t block_count, double deviation);
  std::string Int8Matrix(int64_t rows, int64_t cols, double deviation);
  void AppendBytes(std::string& bytes, int64_t count);

  RandomBits bits_;
};

}  // namespace shoal::test
