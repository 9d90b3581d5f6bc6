#pragma once

// What the events of a streamed answer say. Pure.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "coordinator/cli/bench/load/latency.h"
#include "transport/base/clock.h"

namespace shoal::cli {

// Takes the bytes of a stream of events as they come, and notes in `record`, which must outlive it,
// when there was something to read, how many tokens it was, and what failed.
class EventReader {
 public:
  explicit EventReader(RequestRecord& record) : record_(record) {}

  void Add(std::string_view bytes, TimeNs now);

  // The answer's end was there.
  bool done() const { return done_; }
  // The code of an error in the stream; empty: none came.
  const std::string& error_code() const { return error_code_; }
  // Something other than the model that was asked for answered, and said so.
  bool degraded() const { return degraded_; }

 private:
  void TakeLine(std::string_view line, TimeNs now);
  void TakeEvent(const nlohmann::ordered_json& event, TimeNs now);

  RequestRecord& record_;
  std::string rest_;
  std::string error_code_;
  bool done_ = false;
  bool degraded_ = false;
};

}  // namespace shoal::cli
