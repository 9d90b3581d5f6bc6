// Reading of the golden tokenizer and template vectors.

#include "tests/parallel/text/text_fixtures.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>

#include "parallel/model/files/gguf.h"

namespace shoal::text {

std::string FixturesFolder() {
  const char* folder = std::getenv("SHOAL_FIXTURES");
  return folder == nullptr ? "" : folder;
}

nlohmann::ordered_json ReadJson(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  return nlohmann::ordered_json::parse(in);
}

nlohmann::json FolderMetadata(const std::string& folder) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    const std::string path = folder + "/" + name;
    // Not through ReadJson: ordered objects take quadratic time to parse a vocabulary.
    if (std::ifstream in(path, std::ios::binary); in) metadata[name] = nlohmann::json::parse(in);
  }
  return metadata;
}

nlohmann::json GgufMetadata(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (bytes.size() < 24) throw std::runtime_error("no GGUF file: " + path);
  bytes.replace(8, 8, 8, '\0');  // The number of tensors.
  return model::ParseGguf(std::as_bytes(std::span(bytes)), path).metadata;
}

}  // namespace shoal::text
