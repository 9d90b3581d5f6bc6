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

}  // namespace shoal::text
