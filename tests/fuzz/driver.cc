#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/model/random_weights.h"

// Mutates a target's seeds some number of times, or for some time. No coverage feedback: it finds
// what a few random changes find, everywhere, in seconds, and the same again from the same seed.

namespace shoal::test {
namespace {

constexpr uint64_t kInsertBytesMax = 64;
constexpr size_t kInputBytesMax = size_t{1} << 20;

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string Mutate(const std::vector<std::string>& seeds) {
    std::string input = Pick(seeds);
    const uint64_t change_count = 1 + random_.Below(8);
    for (uint64_t i = 0; i < change_count; ++i) {
      Change(input, seeds);
    }
    input.resize(std::min(input.size(), kInputBytesMax));
    return input;
  }

 private:
  const std::string& Pick(const std::vector<std::string>& seeds) {
    return seeds[random_.Below(seeds.size())];
  }

  // Headers are where parsers decide, so half of all places lie in the first 256 bytes.
  size_t Place(const std::string& input) {
    const size_t end = random_.Below(2) == 0 ? std::min<size_t>(input.size(), 256) : input.size();
    return random_.Below(end + 1);
  }

  void Change(std::string& input, const std::vector<std::string>& seeds) {
    const size_t place = Place(input);
    const size_t rest = input.size() - place;
    switch (random_.Below(7)) {
      case 0:  // One bit.
        if (rest > 0) {
          input[place] = static_cast<char>(input[place] ^ (1 << random_.Below(8)));
        }
        break;
      case 1:  // One byte.
        if (rest > 0) {
          input[place] = static_cast<char>(random_.Next());
        }
        break;
      case 2:
        Overwrite(input, place);
        break;
      case 3:
        input.erase(place, random_.Below(std::min<uint64_t>(rest, kInsertBytesMax) + 1));
        break;
      case 4: {  // A piece of this or another seed.
        const std::string& donor = Pick(seeds);
        const size_t from = random_.Below(donor.size() + 1);
        input.insert(place, donor.substr(from, random_.Below(kInsertBytesMax)));
        break;
      }
      case 5:
        input.insert(place, random_.Below(kInsertBytesMax), static_cast<char>(random_.Next()));
        break;
      default:
        if (random_.Below(8) == 0) {  // Rare: most of what follows would be lost.
          input.resize(place);
        }
        break;
    }
  }

  // A number of 1, 2, 4 or 8 bytes at the limits of its type.
  void Overwrite(std::string& input, size_t place) {
    const uint64_t values[] = {0,
                               1,
                               0x7F,
                               0xFF,
                               0x7FFF,
                               0xFFFF,
                               0x7FFFFFFF,
                               0xFFFFFFFF,
                               uint64_t{1} << 32,
                               uint64_t{1} << 62,
                               uint64_t{1} << 63,
                               UINT64_MAX,
                               UINT64_MAX - 31,
                               input.size(),
                               random_.Below(256)};
    uint64_t value = values[random_.Below(std::size(values))];
    const size_t width = std::min<size_t>(size_t{1} << random_.Below(4), input.size() - place);
    for (size_t i = 0; i < width; ++i, value >>= 8) {
      input[place + i] = static_cast<char>(value);
    }
  }

  RandomBits random_;
};

// Exactly as large as the input, so that a sanitizer sees a read past the end.
void RunOne(const std::string& input) {
  const std::vector<uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

std::optional<std::string> ReadInput(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::nullopt;
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

struct Limits {
  std::optional<uint64_t> iterations;
  std::optional<int64_t> seconds;
};

int Run(uint64_t seed, const Limits& limits) {
  const std::vector<std::string> seeds = FuzzSeeds();
  for (const std::string& input : seeds) {
    RunOne(input);
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto is_over = [&](uint64_t iteration) {
    return (limits.iterations && iteration >= *limits.iterations) ||
           (limits.seconds &&
            std::chrono::steady_clock::now() - begin >= std::chrono::seconds(*limits.seconds));
  };
  uint64_t iteration = 0;
  // Each iteration has its own seed, so that a finding can be repeated alone.
  for (; !is_over(iteration); ++iteration) {
    const uint64_t own_seed = seed + iteration;
    try {
      RunOne(Mutator(own_seed).Mutate(seeds));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "finding: %s\nrepeat it with --seed %llu --iterations 1\n", error.what(),
                   static_cast<unsigned long long>(own_seed));
      return 1;
    }
  }
  std::fprintf(stderr, "%llu inputs, no finding\n", static_cast<unsigned long long>(iteration));
  return 0;
}

}  // namespace
}  // namespace shoal::test

int main(int argc, char** argv) {
  CLI::App app("Mutates a fuzz target's seeds and runs it on them.");
  uint64_t seed =
      static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  shoal::test::Limits limits;
  std::string input_path;
  app.add_option("--seed", seed, "Of the mutations; default: the clock");
  app.add_option("--iterations", limits.iterations, "Inputs to run; default: until --seconds");
  app.add_option("--seconds", limits.seconds, "Stop after this time; default: 3 or --iterations")
      ->check(CLI::Range(0, 86400));
  app.add_option("--input", input_path, "Run the bytes of this file only");
  CLI11_PARSE(app, argc, argv);
  if (!input_path.empty()) {
    const auto input = shoal::test::ReadInput(input_path);
    if (!input) {
      std::fprintf(stderr, "%s: cannot read it\n", input_path.c_str());
      return 2;
    }
    shoal::test::RunOne(*input);
    return 0;
  }
  if (!limits.iterations && !limits.seconds) limits.seconds = 3;
  std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
  return shoal::test::Run(seed, limits);
}
