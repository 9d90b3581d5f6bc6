// Streams tokens from a coordinator: generate_client HOST:PORT "a question"
#include <exception>
#include <iostream>

#include "transport/rpc/client.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "Usage: generate_client HOST:PORT QUESTION\n";
    return 2;
  }
  try {
    shoal::rpc::Client client({.address = argv[1]});
    shoal::rpc::GenerateRequest request;
    request.prompt = shoal::Conversation{{"user", argv[2]}};
    request.params.tokens_max = 64;
    request.params.sampling.temperature = 0;
    const shoal::rpc::GenerateResult result =
        client.Generate(request, [](const shoal::rpc::GenerateChunk& chunk) {
          std::cout << chunk.text << std::flush;
          return true;  // false would cancel
        });
    std::cout << "\n" << result.completion_tokens << " tokens\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
