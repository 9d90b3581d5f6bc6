#pragma once

// Which of this machine's addresses others reach it by.

#include <string>

namespace shoal::rank {

// The numeric address that packets to `peer` ("HOST:PORT") would come from: on the network that
// leads to the coordinator, the other machines of the group are reached as well. Sends nothing.
// Errors: kInvalidArgument if the host has no address or no route.
std::string LocalAddressTowards(const std::string& peer);

// Cores that this process may use, at least 1.
int32_t UsableCores();

// This machine's name.
std::string HostName();

}  // namespace shoal::rank
