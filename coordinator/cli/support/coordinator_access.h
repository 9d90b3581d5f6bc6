#pragma once

// The flags of verbs that ask a coordinator's RPC port.

#include <string>

#include "transport/config/options.h"

namespace shoal::cli {

struct CoordinatorAccess {
  std::string address;  // As it was given; empty: FindAddress looks for one.
  std::string api_key_file;

  // Where to ask: the address that was given; without one, 127.0.0.1:7400 if somebody listens
  // there, or else the only coordinator that `shoal run` has started here. Errors:
  // kInvalidArgument, with their addresses, if there are several.
  std::string FindAddress() const;
  // The key in the file; empty if none is given. Errors: as rpc::ReadSecretFile.
  std::string ReadApiKey() const;
};

// --coordinator, --api-key-file.
void AddCoordinatorAccess(config::OptionTable& table, CoordinatorAccess& access);

}  // namespace shoal::cli
