#pragma once

// Between this project's errors and KJ's exceptions, for both ends of a call.

#include <kj/exception.h>

#include "transport/base/error.h"

namespace shoal::rpc {

// The only two functions in the project that know both error vocabularies.
kj::Exception ToKj(const Error& error);
Error FromKj(const kj::Exception& exception);

// Runs `body` inside an RPC method: an Error it throws reaches the caller as ToKj says.
template <typename Body>
auto TranslateErrors(Body&& body) {
  try {
    return body();
  } catch (const Error& error) {  // The RPC boundary.
    kj::throwFatalException(ToKj(error));
  }
}

}  // namespace shoal::rpc
