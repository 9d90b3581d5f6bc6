#pragma once

// Group tokens and API keys: reading them and comparing them.

#include <string>
#include <string_view>
#include <vector>

namespace shoal::rpc {

// Cost: depends on the lengths only, so that the time taken says nothing of the content.
bool SecretsEqual(std::string_view a, std::string_view b);

// The file's only key, read as below. Errors: kInvalidArgument if it is unreadable, or has no line
// that counts, or more than one.
std::string ReadSecretFile(const std::string& path);

// One key a line; empty lines and lines that begin with # are skipped. Errors: kInvalidArgument if
// the file is unreadable or has no key.
std::vector<std::string> ReadKeysFile(const std::string& path);

}  // namespace shoal::rpc
