#include <span>

#include "parallel/model/files/safetensors.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/model/model_writer.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

// Safetensors: from bytes to tensors that lie inside them.

namespace shoal::test {

std::vector<std::string> FuzzSeeds() {
  return {SafetensorsBytes({{"a", "F32", {2, 3}, std::string(24, 'x')},
                            {"b", "F16", {4}, std::string(8, 'x')},
                            {"c", "BF16", {1, 4}, std::string(8, 'x')}}),
          SafetensorsBytes(std::vector<SafetensorsTensor>{})};
}

}  // namespace shoal::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto bytes = std::as_bytes(std::span(data, size));
    for (const shoal::model::Tensor& tensor :
         shoal::model::ParseSafetensors(bytes, "fuzz.safetensors")) {
      SHOAL_CHECK(tensor.data >= bytes.data() &&
                      tensor.data + tensor.bytes() <= bytes.data() + bytes.size(),
                  tensor.name);
    }
  } catch (const shoal::Error& error) {
    // A refusal is the expected outcome; an error of another kind is a finding.
    if (error.code() != shoal::ErrorCode::kInvalidArgument) {
      throw;
    }
  }
  return 0;
}
