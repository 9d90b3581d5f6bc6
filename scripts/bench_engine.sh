#!/bin/bash
# Measures prefill and decode of the engine alone, without a coordinator, on 1 rank x 1 thread, 1 x 2
# and 2 x 1; with --peer in turns with another program on the same machine, so that the ratios are of
# paired runs. Quote ratios and ranges: on a shared machine absolute figures mean little.
# Takes about a minute for each pair. Leaves build/release and the model.
#
# Usage: scripts/bench_engine.sh [--peer 'COMMAND'] [--pairs 5] [--model FILE]
#   COMMAND prints one JSON object with prefill_tokens_per_second and
#   decode_tokens_per_second_batch_N; without it the ratios say `not measured`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
peer=
pairs=5
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
while [[ $# -gt 0 ]]; do
  case $1 in
    --peer) peer=${2:?--peer needs a command} ;;
    --pairs) pairs=${2:?--pairs needs a number} ;;
    --model) model=${2:?--model needs a file} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "bench_engine.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done
[[ $pairs =~ ^[1-9][0-9]*$ ]] || {
  echo "bench_engine.sh: --pairs: expected a number above 0, found '$pairs'" >&2
  exit 2
}

[[ -f $model ]] || scripts/get_model.sh
cmake --preset release >/dev/null
cmake --build --preset release --target shoal-worker >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
worker=build/release/bin/shoal-worker
mpirun=(mpirun --bind-to none --oversubscribe --mca oob_tcp_if_include lo)
[[ $(id -u) -ne 0 ]] || mpirun+=(--allow-run-as-root)

# One line of JSON on stdout; everything else of the run to stderr if it fails.
measure() {
  local name=$1 pair=$2
  shift 2
  if ! "$@" >"$work/$name.$pair" 2>"$work/log" </dev/null; then
    cat "$work/log" >&2
    echo "bench_engine.sh: failed: $*" >&2
    exit 1
  fi
}

for ((pair = 1; pair <= pairs; pair++)); do
  echo "pair $pair of $pairs" >&2
  measure 1x1 "$pair" "$worker" bench engine "$model" --threads 1 --repeat 1
  measure 1x2 "$pair" "$worker" bench engine "$model" --threads 2 --repeat 1
  [[ -z $peer ]] || measure peer "$pair" bash -c "$peer"
  measure 2x1 "$pair" "${mpirun[@]}" -np 2 "$worker" bench engine "$model" --tensor-parallel 2 \
    --threads 1 --repeat 1
done

python3 - "$work" "$pairs" "$peer" <<'PYTHON'
"""Prints medians, ranges and paired ratios of what the runs left in a folder."""
import json
import pathlib
import statistics
import sys

work, pairs, peer = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
FIGURES = ["prefill_tokens_per_second", "decode_tokens_per_second_batch_1",
           "decode_tokens_per_second_batch_4", "decode_tokens_per_second_batch_16"]
FRACTIONS = ["streaming_read_fraction", "dot_product_fraction"]
NAMES = {"1x1": "1 rank x 1 thread", "1x2": "1 rank x 2 threads", "2x1": "2 ranks x 1 thread",
         "peer": "peer"}


def read(name):
    texts = [(work / f"{name}.{pair}").read_text() for pair in range(1, pairs + 1)]
    # The object may stand among other output of a peer.
    return [json.loads(text[text.index("{"):text.rindex("}") + 1]) for text in texts]


def spread(values, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(runs, others, figure):
    if others is None or any(figure not in run for run in runs + others):
        return "not measured"
    return spread([a[figure] / b[figure] for a, b in zip(runs, others)], 2)


names = ["1x1", "1x2", "2x1"] + (["peer"] if peer else [])
all_runs = {name: read(name) for name in names}
print(f"{pairs} paired runs; median (lowest to highest)\n")
rows = [["cut", "figure", "value", "to 1 x 2", "to the peer"]]
for name in names:
    runs = all_runs[name]
    for figure in FIGURES + FRACTIONS:
        if any(figure not in run for run in runs):
            continue
        values = [run[figure] for run in runs]
        is_rate = figure in FIGURES
        rows.append([NAMES[name], figure.replace("_tokens_per_second", ", tokens/s").replace("_", " "),
                     spread(values, 1 if is_rate else 3),
                     ratio(runs, all_runs["1x2"], figure) if is_rate and name != "1x2" else "",
                     ratio(runs, all_runs.get("peer"), figure) if is_rate and name != "peer" else ""])
widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
for row in rows:
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
PYTHON
