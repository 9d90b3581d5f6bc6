#include "coordinator/cli/support/coordinator_access.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "coordinator/cli/support/local_coordinators.h"
#include "transport/base/error.h"
#include "transport/rpc/secret.h"

namespace shoal::cli {
namespace {

constexpr uint16_t kPort = 7400;
constexpr const char* kAddress = "127.0.0.1:7400";

// Over loopback, where connecting never waits for anybody.
bool SomebodyListens() {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) return false;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(kPort);
  const bool listens =
      connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(connection);
  return listens;
}

}  // namespace

std::string CoordinatorAccess::FindAddress() const {
  if (!address.empty()) return address;
  if (SomebodyListens()) return kAddress;
  const auto found = FindLocalCoordinators(NotesFolder());
  if (found.empty()) return kAddress;  // Whoever asks there says that nobody answers.
  if (found.size() == 1) return found.front().rpc;
  std::string all;
  for (const LocalCoordinator& one : found) {
    all += (all.empty() ? "" : ", ") + one.rpc + " (" + one.url + ")";
  }
  Throw(ErrorCode::kInvalidArgument, "several coordinators run here: ", all,
        "; say which one with --coordinator HOST:PORT");
}

std::string CoordinatorAccess::ReadApiKey() const {
  return api_key_file.empty() ? "" : rpc::ReadSecretFile(api_key_file);
}

void AddCoordinatorAccess(config::OptionTable& table, CoordinatorAccess& access) {
  table.AddString("coordinator", "HOST:PORT", access.address,
                  "The coordinator's RPC port. Empty: 127.0.0.1:7400 if somebody listens there, "
                  "or else the one that `shoal run` has started here.");
  table.AddString("api-key-file", "FILE", access.api_key_file,
                  "A file with an API key, one line, if the coordinator asks for one.");
}

}  // namespace shoal::cli
