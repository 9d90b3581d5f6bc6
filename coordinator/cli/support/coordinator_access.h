#pragma once

// The flags of verbs that ask a coordinator's RPC port.

#include <string>

#include "transport/config/options.h"

namespace shoal::cli {

struct CoordinatorAccess {
  std::string address = "127.0.0.1:7400";
  std::string api_key_file;

  // The key in the file; empty if none is given. Errors: as rpc::ReadSecretFile.
  std::string ReadApiKey() const;
};

// --coordinator, --api-key-file.
void AddCoordinatorAccess(config::OptionTable& table, CoordinatorAccess& access);

}  // namespace shoal::cli
