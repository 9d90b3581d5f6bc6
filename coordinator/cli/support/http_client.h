#pragma once

// A client of the project's own HTTP interface, one request at a time.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::cli {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

struct HttpAddress {
  std::string host;
  std::string port;
};

// Of "http://HOST[:PORT]". Errors: kInvalidArgument for another form.
HttpAddress ParseHttpUrl(const std::string& url);

// What to do when the connection of a stream of events is lost.
struct ResumeOptions {
  int64_t timeout_ms = 0;  // How long to try to go on. 0: not at all.
  // Called with each loss that is tried to be made good, and why.
  std::function<void(const std::string& why)> on_lost{};
};

class HttpClient {
 public:
  // `api_key` may be empty. `silence_ms`: a server that sends nothing for so long is lost; of a
  // stream of events that has begun, for 30 s at most. Errors: those of ParseHttpUrl.
  explicit HttpClient(const std::string& url, std::string api_key = "",
                      int64_t silence_ms = 60'000);

  // Errors: kCannotJoin if nobody answers there within 10 s, kPeerLost if the connection breaks off
  // or nothing comes for too long.
  HttpAnswer Get(const std::string& path) const;
  HttpAnswer Post(const std::string& path, const std::string& json) const;

  // Hands the data of each server-sent event on as it comes, each once; false from `on_event` ends
  // it. If the status is not 200, the answer is as Post's. With `resume`, an answer whose
  // connection is lost is gone on with over another one, as long as the server's events have ids.
  HttpAnswer PostForEvents(const std::string& path, const std::string& json,
                           const std::function<bool(std::string_view data)>& on_event,
                           const ResumeOptions& resume = {}) const;

 private:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  HttpAnswer Exchange(const std::string& method, const std::string& path, const std::string& json,
                      const Headers& headers,
                      const std::function<bool(std::string_view bytes)>& on_bytes) const;

  HttpAddress address_;
  std::string api_key_;
  int64_t silence_ms_;
};

}  // namespace shoal::cli
