#pragma once

// Reading of the golden tokenizer and template vectors.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shoal::text {

// $SHOAL_FIXTURES, or empty.
std::string FixturesFolder();

// The parsed file; a test failure (thrown) if it cannot be read.
nlohmann::ordered_json ReadJson(const std::string& path);

// What Model::metadata() holds for a folder with a tokenizer.json.
nlohmann::json FolderMetadata(const std::string& folder);

// The metadata of a GGUF file of any family, also of those whose tensors are not read.
nlohmann::json GgufMetadata(const std::string& path);

}  // namespace shoal::text
