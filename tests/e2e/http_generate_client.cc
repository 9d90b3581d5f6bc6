// Streams tokens over HTTP: http_generate_client http://HOST:PORT "a question". All it needs is
// transport/client: g++ -std=c++20 -I . tests/e2e/http_generate_client.cc -pthread
#include <exception>
#include <iostream>

#include "transport/client/http_client.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "Usage: http_generate_client http://HOST:PORT QUESTION\n";
    return 2;
  }
  try {
    shoal::client::HttpClient client({.url = argv[1]});
    const shoal::client::HttpAnswer answer = client.Generate(
        {.path = "/v1/chat/completions",
         .body = shoal::client::ChatBody(argv[2], 64, /*stream=*/true, R"(,"temperature":0)"),
         .deadline_ms = 60'000},
        [](std::string_view event) {
          std::cout << shoal::client::TextOf(event) << std::flush;
          return true;  // false would cancel
        });
    std::cout << "\n" << answer.attempts << " attempts";
    if (answer.disclosure.degraded) std::cout << ", answered by " << answer.disclosure.model_used;
    std::cout << "\n";
    return 0;
  } catch (const shoal::client::HttpError& error) {
    std::cerr << error.what() << ", after " << error.attempts << " attempts";
    if (error.failure.retry_after_ms > 0) {
      std::cerr << "; come back in " << error.failure.retry_after_ms << " ms";
    }
    std::cerr << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
  }
  return 1;
}
