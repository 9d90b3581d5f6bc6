#pragma once

// Many prompts, each a request of its own: the server computes them together all the same, because
// it puts the rows of all its requests into one step. Standard library only.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "transport/client/http_client.h"

namespace shoal::client {

constexpr size_t kBatchConcurrencyMax = 256;

// Calls work(0) to work(count - 1), each once, from at most `concurrency` threads (1 to
// kBatchConcurrencyMax); returns when all have returned. `work` must not throw.
inline void RunConcurrently(size_t count, size_t concurrency,
                            const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  const auto loop = [&] {
    for (size_t i = next++; i < count; i = next++) work(i);
  };
  const size_t threads = std::min(std::clamp<size_t>(concurrency, 1, kBatchConcurrencyMax), count);
  std::vector<std::jthread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back(loop);
  loop();
}

// Either an answer or what it ended with.
struct BatchItem {
  HttpAnswer answer{};
  std::optional<HttpError> error{};
};

// The answers in the order of the requests; what becomes of one is nothing to the others. `cancel`
// breaks off all.
inline std::vector<BatchItem> GenerateBatch(HttpClient& client,
                                            const std::vector<HttpRequest>& requests,
                                            size_t concurrency = 8,
                                            const Cancel* cancel = nullptr) {
  std::vector<BatchItem> items(requests.size());
  RunConcurrently(requests.size(), concurrency, [&](size_t i) {
    try {
      items[i].answer = client.Generate(requests[i], nullptr, cancel);
    } catch (const HttpError& error) {
      items[i].error = error;
    } catch (const std::exception& error) {  // It could not be sent.
      items[i].error = HttpError({.status = 400, .code = "invalid_value"}, error.what());
    }
  });
  return items;
}

}  // namespace shoal::client
