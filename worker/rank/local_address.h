#pragma once

// The address of this machine that the other machines of a group reach it by.

#include <string>

namespace shoal::rank {

// The numeric address that packets to `peer` ("HOST:PORT") would come from: on the network that
// leads to the coordinator, the other machines of the group are reached as well. Sends nothing.
// Errors: kInvalidArgument if the host has no address or no route.
std::string LocalAddressTowards(const std::string& peer);

// This machine's name.
std::string HostName();

}  // namespace shoal::rank
