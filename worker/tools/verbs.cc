#include "worker/tools/verbs.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "transport/base/error.h"
#include "worker/rank/agreement.h"
#include "worker/tools/bench_engine.h"
#include "worker/tools/convert/convert.h"
#include "worker/tools/perplexity.h"
#include "worker/tools/verify.h"

namespace shoal::rank {
namespace {

constexpr int64_t kParseMs = 10'000;
// Long enough for benchmarks and digests with slow kernels; a rank that hangs still ends them.
constexpr int64_t kVerbStepMs = 600'000;

constexpr const char* kEpilog = R"(Several ranks need mpirun, tensor times pipeline of them.

Environment:
  SHOAL_FORCE_ISA  scalar, avx2, avx512vnni or amx: use these kernels, or exit 4 if they cannot run.
)";

// Everything that the verbs share: flags, a group, one rank that prints, and the exit status.
class Verb {
 public:
  Verb(const std::string& program, const std::string& summary)
      : table_({.program = program,
                .usage = "MODEL [options]",
                .summary = summary,
                .epilog = kEpilog}) {
    options_.step_timeout_ms = kVerbStepMs;
    table_.AddPositional("model", options_.model, "A GGUF file or a safetensors folder.");
    AddGroupOptions(table_, options_);
  }

  config::OptionTable& table() { return table_; }
  const WorkerOptions& options() const { return options_; }

  // Calls `work` with the group, or prints what --help asks for.
  int Run(int argc, const char* const* argv, const forward::LogitsSink& on_logits,
          const std::function<int(GroupSetup&)>& work) {
    int status = 0;
    comm::MpiEnvironment environment;
    const SteadyClock clock;
    const std::optional<Failure> failure = TryTo([&] {
      config::ParseOutcome outcome = config::ParseOutcome::kRun;
      RunOnAllRanks(environment, Deadline::After(clock, kParseMs),
                    [&] { outcome = table_.Parse(argc, argv); });
      if (outcome == config::ParseOutcome::kPrinted) return;
      const char* force_isa = std::getenv("SHOAL_FORCE_ISA");
      const std::unique_ptr<GroupSetup> setup = SetUpGroup(
          environment, options_, force_isa == nullptr ? "" : force_isa, clock, on_logits);
      status = work(*setup);
    });
    if (!failure) return status;
    if (environment.rank() == 0) std::cerr << "shoal-worker: " << failure->message << std::endl;
    return ExitStatus(failure->code);
  }

 private:
  WorkerOptions options_;
  config::OptionTable table_;
};

}  // namespace

int RunVerify(int argc, const char* const* argv) {
  Verb verb(
      "shoal-worker verify",
      "Prints digests of the model's logits and of sampled tokens, which every cut, batch and "
      "instruction set must print alike.");
  bool canary = false;
  verb.table().AddBool("canary", canary,
                       "Print the digest of the canary instead, which a coordinator compares "
                       "before a group serves, and the numerics id that it is of.");
  LogitsDigest digest;
  return verb.Run(argc, argv, digest.sink(), [&](GroupSetup& setup) {
    if (canary) {
      const std::string found = ComputeCanary(setup, verb.options());
      if (!setup.member->leads()) return 0;
      std::cout << "digest canary " << found << "\ndigest numerics_id "
                << setup.member->model().numerics_id() << std::endl;
      return 0;
    }
    const VerifyDigests digests = ComputeDigests(setup, verb.options(), digest);
    if (!setup.member->leads()) return 0;
    std::cout << "digest logits " << digests.logits << "\ndigest sampled " << digests.sampled
              << "\ndigest numerics_id " << digests.numerics_id << std::endl;
    return 0;
  });
}

int RunPerplexity(int argc, const char* const* argv) {
  Verb verb("shoal-worker perplexity",
            "Prints how well the model predicts a text: the perplexity over windows of it, each "
            "predicted without what comes before it.");
  std::string text;
  std::string ids;
  verb.table().AddString("text", "FILE", text,
                         "The text, in windows of 512 tokens or, if that is shorter, the context.");
  verb.table().AddString("ids", "FILE", ids,
                         "Instead of --text: a JSON object with \"ids\", the text's tokens, and "
                         "\"window\", the tokens of a window (512).");
  return verb.Run(argc, argv, nullptr, [&](GroupSetup& setup) {
    if (text.empty() == ids.empty()) {
      Throw(ErrorCode::kInvalidArgument, "expected one of --text FILE and --ids FILE, found ",
            text.empty() ? "neither" : "both");
    }
    const ScoredText scored = text.empty() ? ReadScoredText(ids) : TokenizeScoredText(text, setup);
    const Perplexity result = ComputePerplexity(setup, verb.options(), scored);
    if (!setup.member->leads()) return 0;
    std::printf("perplexity %.4f\nmean_nll %.6f\nscored_tokens %lld\n", result.perplexity,
                result.mean_nll, static_cast<long long>(result.tokens));
    return 0;
  });
}

int RunConvert(int argc, const char* const* argv) {
  ConvertOptions options;
  config::OptionTable table(
      {.program = "shoal convert",
       .usage = "MODEL OUT.gguf --to FORMAT",
       .summary =
           "Writes a model in another weight format, as a GGUF file. A matrix whose rows do not "
           "divide into blocks of the format becomes q8_0, or f16; embedding and output head "
           "keep at least 8 bits. A source that is already quantised loses more than one that "
           "is not. Give int8 a text to calibrate with: its inputs have one scale for all "
           "channels, and some channels are much larger than others.",
       .epilog = "Exit status:\n"
                 "  0  written, whole\n"
                 "  1  the disk is full or fails; no file is left\n"
                 "  2  wrong usage, a bad model, or the file exists\n"});
  table.AddPositional("model", options.model, "A GGUF file or a safetensors folder.");
  table.AddPositional("output", options.output, "The file to write; it must not exist.");
  table.AddChoice<DType>(
      "to", options.to,
      {{"q8_0", DType::kQ8_0},
       {"q6_k", DType::kQ6_K},
       {"q5_k", DType::kQ5_K},
       {"q5_0", DType::kQ5_0},
       {"q5_1", DType::kQ5_1},
       {"q4_k", DType::kQ4_K},
       {"q4_0", DType::kQ4_0},
       {"q4_1", DType::kQ4_1},
       {"iq4_nl", DType::kIQ4_NL},
       {"int8", DType::kINT8},
       {"q8_g128", DType::kQ8_G128},
       {"q4_g128", DType::kQ4_G128},
       {"f32", DType::kF32},
       {"f16", DType::kF16},
       {"bf16", DType::kBF16}},
      "The matrices' format. int8 has one scale for each output; it and the g128 "
      "formats are shoal's own, other programs refuse them.");
  std::string calibration;
  table.AddString("calibration", "FILE", calibration,
                  "A text that the source is run over first, to even out the channels of its "
                  "layers' inputs by powers of two. A few thousand tokens of what the model is "
                  "for are enough.");
  table.AddInt("threads", "T", options.threads, {0, 4096}, "Threads. 0: one for each core.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  if (!calibration.empty()) {
    options.factors = [&] { return Calibrate(options.model, calibration, options.threads); };
  }
  const ConvertReport report = Convert(options);
  const auto bits = [&](int64_t bytes) {
    return 8.0 * static_cast<double>(bytes) / static_cast<double>(report.matrix_weights);
  };
  std::printf(
      "%s: %lld bytes of weights, %.2f bits each (the source: %lld, %.2f; to F32: %+.1f %%)\n",
      options.output.c_str(), static_cast<long long>(report.output_bytes),
      bits(report.output_bytes), static_cast<long long>(report.source_bytes),
      bits(report.source_bytes), bits(report.output_bytes) / 0.32 - 100);
  return 0;
}

int RunBenchEngine(int argc, const char* const* argv) {
  Verb verb("shoal-worker bench engine",
            "Measures prefill and decode of a group without a coordinator, and how close they come "
            "to what the machine can do. Prints one JSON object.");
  BenchOptions bench;
  verb.table().AddInt("prompt-tokens", "N", bench.prompt_tokens, {1, INT32_MAX},
                      "Length of the prompt whose prefill is timed.");
  verb.table().AddInt("decode-tokens", "N", bench.decode_tokens, {1, INT32_MAX},
                      "Tokens of each sequence whose decoding is timed.");
  verb.table().AddInt("bench-context-tokens", "N", bench.context_tokens, {1, INT32_MAX},
                      "Tokens in the cache of each sequence before that.");
  verb.table().AddInt("repeat", "N", bench.repeat, {1, 1000},
                      "Each figure is the median of as many runs, after one that is not counted.");
  const SteadyClock clock;
  return verb.Run(argc, argv, nullptr, [&](GroupSetup& setup) {
    const nlohmann::ordered_json result = BenchEngine(setup, verb.options(), bench, clock);
    if (setup.member->leads()) std::cout << result.dump() << std::endl;
    return 0;
  });
}

}  // namespace shoal::rank
