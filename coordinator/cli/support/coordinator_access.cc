#include "coordinator/cli/support/coordinator_access.h"

#include "transport/rpc/secret.h"

namespace shoal::cli {

std::string CoordinatorAccess::ReadApiKey() const {
  return api_key_file.empty() ? "" : rpc::ReadSecretFile(api_key_file);
}

void AddCoordinatorAccess(config::OptionTable& table, CoordinatorAccess& access) {
  table.AddString("coordinator", "HOST:PORT", access.address, "The coordinator's RPC port.");
  table.AddString("api-key-file", "FILE", access.api_key_file,
                  "A file with an API key, one line, if the coordinator asks for one.");
}

}  // namespace shoal::cli
