#include "transport/config/group_flags.h"

#include <algorithm>
#include <memory>

namespace shoal::config {
namespace {

constexpr GroupFlag kFlags[] = {
    {"tensor-parallel", "N", {1, 4096}, "1", "Ranks that share each layer."},
    {"pipeline-parallel",
     "N",
     {1, 4096},
     "1",
     "Stages, each with some of the layers. Tensor times pipeline is the number of ranks."},
    {"threads",
     "T",
     {0, 4096},
     "0",
     "Threads of each rank. 0: cores / ranks on this machine, at least 1."},
    {"context-tokens-max",
     "N",
     {0, INT32_MAX},
     "0",
     "Longest sequence, prompt and answer. 0: the model's."},
    {"kv-cache-tokens",
     "N",
     {0, INT32_MAX},
     "0",
     "Positions that the KV cache holds, all sequences together. 0: every sequence at full "
     "length, within 1 GiB a rank (or one sequence, or the weights' size, if more) and half of "
     "the rank's share of the free memory."},
    {"kv-cache-bytes-max",
     "N",
     {0, INT64_MAX},
     "0",
     "Upper bound for the KV cache of each rank. 0: that of --kv-cache-tokens."},
    {"kv-dtype",
     "f16|f32|bf16|int8",
     {},
     "f16",
     "What keys and values are rounded to. int8: with one scale for each key and value, in "
     "half the memory of f16. Part of the numerics id."},
    {"numerics",
     "exact|fast",
     {},
     "exact",
     "How sums cross a cut. exact: the same bits for every cut. fast: half the bytes between "
     "ranks, other bits for every cut. Part of the numerics id."},
    {"prefill-chunk-tokens",
     "N",
     {1, 1 << 20},
     "512",
     "Prompt positions of one step, all sequences together."},
    {"sequences-max", "N", {1, 1 << 16}, "32", "Sequences that run at once."},
    {"prefix-cache",
     "on|off",
     {},
     "on",
     "Keep the blocks of ended sequences, so that later ones with the same prefix need not compute "
     "it."},
    {"speculation",
     "off|prompt-lookup",
     {},
     "prompt-lookup",
     "Guess the next tokens from what the sequence said before, and verify several in one step. "
     "Changes no answer."},
    {"speculation-tokens-max", "N", {1, 16}, "8", "Tokens that one sequence may guess in a step."},
    {"batch-policy",
     "continuous|threshold",
     {},
     "continuous",
     "When waiting requests join the running ones: with the next step, or all at once when "
     "enough of them wait or one has waited long enough."},
    {"batch-queue-min",
     "N",
     {0, 1 << 20},
     "10",
     "With the threshold policy: more than N must wait."},
    {"batch-delay-max-ms",
     "N",
     {0, 3'600'000},
     "50",
     "With the threshold policy: or one has waited for so long."},
    {"comm",
     "auto|shm|tcp|mpi",
     {},
     "auto",
     "How ranks reach each other. auto: shm on one machine, else tcp."},
    {"memory-bytes-max",
     "N",
     {0, INT64_MAX},
     "0",
     "Upper bound for weights, KV cache and activations of each rank. 0: its share of what the "
     "machine has available, of all ranks that are started together."},
};

}  // namespace

std::vector<std::string> GroupFlag::words() const {
  std::vector<std::string> words;
  for (size_t at = 0; at <= placeholder.size();) {
    const size_t end = std::min(placeholder.find('|', at), placeholder.size());
    words.emplace_back(placeholder.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::span<const GroupFlag> GroupFlags() { return kFlags; }

const GroupFlag& FindGroupFlag(std::string_view name) {
  const auto* const flag = std::ranges::find(kFlags, name, &GroupFlag::name);
  SHOAL_CHECK(flag != std::end(kFlags), "no group flag ", name);
  return *flag;
}

void PassGroupFlag(OptionTable& table, std::string_view name) {
  const GroupFlag& flag = FindGroupFlag(name);
  // The table keeps the value's text; what it is bound to lives as long as the row.
  const auto keep = [](Option& row, auto value) {
    row.assign = [value, assign = std::move(row.assign)](const std::string& text) {
      return assign(text);
    };
  };
  if (flag.is_choice()) {
    const auto word = std::make_shared<std::string>(flag.default_text);
    keep(AddGroupFlag(table, name, *word, flag.words()), word);
  } else {
    const auto number = std::make_shared<int64_t>(std::stoll(std::string(flag.default_text)));
    keep(AddGroupFlag(table, name, *number), number);
  }
}

std::vector<std::string> GroupArguments(const OptionTable& table) {
  std::vector<std::string> arguments;
  for (const Option& option : table.options()) {
    if (std::ranges::find(kFlags, option.name, &GroupFlag::name) == std::end(kFlags)) continue;
    arguments.push_back(option.Flag());
    arguments.push_back(table.ValueText(option.name));
  }
  return arguments;
}

}  // namespace shoal::config
