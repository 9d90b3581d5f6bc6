#!/bin/bash
# Measures prefill and decode of the engine alone on 1 rank x 1 thread, 1 x 2 and 2 x 1, decode of 16
# sequences also through HTTP, and how much of its speed a group keeps beside a busy process; with
# --peer in turns with another program on the same machine, so that the ratios are of paired runs.
# Quote ratios and ranges: on a shared machine absolute figures mean little.
# Takes about two minutes for each pair. Leaves build/release and the model.
#
# Usage: scripts/bench_engine.sh [--peer 'COMMAND'] [--best-peer 'COMMAND'] [--pairs 5] [--model FILE]
#     [--quick]
#   COMMAND prints one JSON object with prefill_tokens_per_second and
#   decode_tokens_per_second_batch_N; without it the ratios say `not measured`. --peer runs the same
#   file, --best-peer the format that suits the peer best. --quick leaves out HTTP and the busy process.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
peer= best= pairs=5 quick=
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
while [[ $# -gt 0 ]]; do
  case $1 in
    --peer) peer=${2:?--peer needs a command} ;;
    --best-peer) best=${2:?--best-peer needs a command} ;;
    --pairs) pairs=${2:?--pairs needs a number} ;;
    --model) model=${2:?--model needs a file} ;;
    --quick)
      quick=1
      shift
      continue
      ;;
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
cmake --build --preset release --target shoal shoal-worker >&2

work=$(mktemp -d)
busy= server=
clean_up() {
  [[ -z $busy ]] || kill "$busy" 2>/dev/null || true
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap clean_up EXIT
bin=build/release/bin
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

# engine NAME PAIR RANKS THREADS [flags]
engine() {
  local name=$1 pair=$2 ranks=$3 threads=$4
  shift 4
  local command=("$bin/shoal-worker" bench engine "$model" --repeat 1 --threads "$threads" "$@")
  if [[ $ranks -gt 1 ]]; then
    command=("${mpirun[@]}" -np "$ranks" "${command[@]}" --tensor-parallel "$ranks")
  fi
  measure "$name" "$pair" "${command[@]}"
}

# The same beside a process that never waits, of the same priority, wherever the kernel puts it.
engine_beside_busy() {
  yes >/dev/null &
  busy=$!
  engine "$@"
  kill "$busy"
  wait "$busy" || true
  busy=
}

# As many clients as the engine's largest batch, each with four requests of the same shape in turn.
through_http() {
  local pair=$1
  mkfifo "$work/ready"
  "$bin/shoal" run "$model" --port 0 --threads 2 >"$work/ready" 2>"$work/server_log" &
  server=$!
  local word url
  read -r word url <"$work/ready"
  rm "$work/ready"
  [[ $word = ready ]] || {
    cat "$work/server_log" >&2
    exit 1
  }
  for run in warm_up "http.$pair"; do
    "$bin/shoal" bench serve "$url" --concurrency 16 --requests 64 --prompt-tokens 128 \
      --output-tokens 65 --json >"$work/$run" 2>"$work/log"
  done
  kill "$server"
  wait "$server" || true
  server=
}

for ((pair = 1; pair <= pairs; pair++)); do
  echo "pair $pair of $pairs" >&2
  engine 1x1 "$pair" 1 1
  engine 1x2 "$pair" 1 2
  [[ -z $peer ]] || measure peer "$pair" bash -c "$peer"
  [[ -z $best ]] || measure best "$pair" bash -c "$best"
  engine 2x1 "$pair" 2 1
  [[ -z $quick ]] || continue
  through_http "$pair"
  engine_beside_busy 1x2_busy "$pair" 1 2
  engine_beside_busy 2x1_busy "$pair" 2 1
done

python3 - "$work" "$pairs" "$(basename "$model")" <<'PYTHON'
"""Prints medians, ranges and paired ratios of what the runs left in a folder."""
import json
import pathlib
import re
import statistics
import sys

work, pairs, model = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
FIGURES = {"prefill_tokens_per_second": "prefill", "decode_tokens_per_second_batch_1": "decode",
           "decode_tokens_per_second_batch_4": "decode of 4",
           "decode_tokens_per_second_batch_16": "decode of 16"}
FRACTIONS = {"streaming_read_fraction": "decode / streaming read",
             "dot_product_fraction": "prefill / dot product peak"}
NAMES = {"1x1": "1 rank x 1 thread", "1x2": "1 rank x 2 threads", "2x1": "2 ranks x 1 thread",
         "peer": "peer, same file", "best": "peer, best format", "1x2_busy": "1 x 2 beside a busy process",
         "2x1_busy": "2 x 1 beside a busy process"}


def read(name):
    if not (work / f"{name}.1").exists():
        return None
    texts = [(work / f"{name}.{pair}").read_text() for pair in range(1, pairs + 1)]
    # The object may stand among other output of a peer.
    return [json.loads(text[text.index("{"):text.rindex("}") + 1]) for text in texts]


def spread(values, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(others, runs, figure, other_figure=None):
    if not runs or not others:
        return "not measured"
    pairs = [(a.get(figure), b.get(other_figure or figure)) for a, b in zip(runs, others)]
    if any(a is None or b is None for a, b in pairs):
        return "not measured"
    return spread([a / b for a, b in pairs], 2)


def print_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


all_runs = {name: runs for name in NAMES if (runs := read(name))}
processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
print(f"{model}, {processor[1] if processor else 'unknown processor'}, "
      f"{all_runs['1x2'][0]['instruction_set']}, {pairs} paired runs; median (lowest to highest)\n")
rows = [["cut", "figure", "tokens/s", "to 1 x 2", "to the peer", "to its best"]]
for name in ("1x1", "1x2", "2x1", "peer", "best"):
    for figure, title in FIGURES.items():
        runs = all_runs.get(name)
        if not runs or any(figure not in run for run in runs):
            continue
        own = name not in ("peer", "best")
        rows.append([NAMES[name], title, spread([run[figure] for run in runs], 1),
                     ratio(all_runs["1x2"], runs, figure) if name != "1x2" and own else "",
                     ratio(all_runs.get("peer"), runs, figure) if own else "",
                     ratio(all_runs.get("best"), runs, figure) if own else ""])
print_table(rows)
print()
rows = [["fraction", *(NAMES[name] for name in ("1x1", "1x2", "2x1"))]]
for figure, title in FRACTIONS.items():
    rows.append([title, *(spread([run[figure] for run in all_runs[name]], 3)
                          for name in ("1x1", "1x2", "2x1"))])
print_table(rows)
print()
http = read("http")
print("16 clients through HTTP, to decode of 16 alone (1 x 2):",
      ratio(all_runs["1x2"], http, "full_tokens_per_second", "decode_tokens_per_second_batch_16"))
rows = [["speed kept beside a busy process", *FIGURES.values()]]
for quiet in ("1x2", "2x1"):
    rows.append([NAMES[quiet], *(ratio(all_runs[quiet], all_runs.get(quiet + "_busy"), figure)
                                 for figure in FIGURES)])
print_table(rows)
PYTHON
