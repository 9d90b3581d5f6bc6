#pragma once

// A file that says how a region is to treat requests, read again while it runs.

#include <kj/async.h>
#include <kj/timer.h>

#include <functional>
#include <string>

#include "coordinator/core/record/flight_recorder.h"

namespace shoal::gateway {

// The file is read on a thread of its own, for a slow disk must hold up no stream, and what it says
// is applied in the loop. A file that cannot be used is logged and recorded, and all stays as it
// was. One reading at a time: whoever asks during one gets one more after it, so the last word of
// the file counts. One that never comes to its end keeps its thread, and holds up nothing else, not
// even the end of the process. Threading: owned by the event loop.
class PolicyFile {
 public:
  // In the loop. Result: what it came to, for people: "2 tenants".
  using Apply = std::function<std::string()>;
  // On the other thread: it has to hold what it uses, for it may outlive all others. Errors:
  // kInvalidArgument, naming the file and the line.
  using Read = std::function<Apply()>;

  // `note`: where records of it go.
  PolicyFile(std::string path, Read read, kj::Timer& timer, std::function<void(core::Record)> note);

  // The file may have changed.
  void ReadAgain();

 private:
  kj::Promise<void> ReadLoop();
  // Null: there is nothing to apply, and why has been said.
  kj::Promise<Apply> ReadBeside();
  // Says so now and then if the reading at hand does not end.
  kj::Promise<void> WatchLoop();
  void Take(const Apply& apply);
  void Refuse(const std::string& why);

  const std::string path_;
  const Read read_;
  kj::Timer& timer_;
  const std::function<void(core::Record)> note_;
  bool reading_ = false;
  bool again_ = false;
  kj::Promise<void> task_ = nullptr;
};

}  // namespace shoal::gateway
