@0x9be35f7ac0d18426;
# The first thing anyone who connects to a coordinator's RPC port meets, and the only thing before
# they have shown what they know: it hands out nothing but a way to authenticate.
#
# A connection that has not passed within ten seconds is closed. Secrets are compared in constant
# time.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("shoal::wire");

using Worker = import "worker.capnp";
using Service = import "service.capnp";

const protocolVersion :UInt32 = 1;
# Raised when old and new sides cannot work together at all.

interface Gate {
  joinAsWorker @0 (protocol :UInt32, groupToken :Data) -> (port :Worker.WorkerPort, refusal :Text);
  # For ranks. `groupToken` is the content of the coordinator's group token file, empty if it has
  # none. A wrong token or protocol gives no port but a refusal that says which of the two it was.

  openService @1 (protocol :UInt32, apiKey :Text)
      -> (coordinator :Service.Coordinator, refusal :Text);
  # For upstream programs. `apiKey` is one of the coordinator's API keys, empty if it has none.
}
