#include "tests/support/model/golden.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "transport/base/error.h"

namespace shoal::test {
namespace {

using nlohmann::json;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Throw(ErrorCode::kInvalidArgument, path, ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The elements of one tensor of a safetensors file: u64 header size, JSON header, data.
template <typename T>
std::vector<T> Elements(const std::string& file, const std::string& name) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), sizeof(header_size));
  const json header = json::parse(file.substr(8, header_size));
  const json& offsets = header.at(name).at("data_offsets");
  const uint64_t begin = offsets[0];
  const uint64_t end = offsets[1];
  std::vector<T> values((end - begin) / sizeof(T));
  std::memcpy(values.data(), file.data() + 8 + header_size + begin, end - begin);
  return values;
}

}  // namespace

std::optional<std::string> FixturesFolder() {
  const char* folder = std::getenv("SHOAL_FIXTURES");
  if (folder == nullptr || *folder == '\0') return std::nullopt;
  return folder;
}

GoldenData ReadGolden(const std::string& fixtures, const std::string& name) {
  const std::string path = fixtures + "/golden/" + name;
  const json facts = json::parse(ReadFile(path + ".json"));
  const std::string tensors = ReadFile(path + ".safetensors");
  GoldenData golden;
  golden.yardstick = facts.at("yardstick_max_abs_f32_minus_f64");
  for (const json& prompt : facts.at("prompts")) {
    const std::string key = prompt.at("key");
    golden.prompts.push_back({.ids = Elements<int32_t>(tensors, key + ".ids"),
                              .logits = Elements<float>(tensors, key + ".logits"),
                              .greedy_ids = Elements<int32_t>(tensors, key + ".greedy_ids")});
  }
  return golden;
}

}  // namespace shoal::test
