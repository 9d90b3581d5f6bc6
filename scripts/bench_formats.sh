#!/bin/bash
# Compares the weight formats that `shoal convert` writes with FP32: file size, resident weights, prefill
# and decode (in turns with FP32, so that the ratios are of paired runs) and perplexity. Prints the table.
# The FP32 model is made from the given one; of a quantised model it holds the weights as they were rounded.
# Takes about four minutes for each format with 3 pairs. Leaves build/release and the model; needs 2 GB in
# a temporary folder.
#
# Usage: scripts/bench_formats.sh [--formats 'int8 q8_0 …'] [--pairs 3] [--model FILE] [--text FILE]
#     [--calibration FILE] [--threads N]
#   --text: what perplexity is computed over; by default the GNU GPL that Debian has on every machine.
#   --calibration: what int8 is calibrated with; by default the Apache License, from the same place.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
formats='f16 int8 q8_0 q8_g128 q6_k q4_1 q4_0 q4_g128'
pairs=3 threads=0
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
text=/usr/share/common-licenses/GPL-3
calibration=/usr/share/common-licenses/Apache-2.0
while [[ $# -gt 0 ]]; do
  case $1 in
    --formats) formats=${2:?--formats needs a list} ;;
    --pairs) pairs=${2:?--pairs needs a number} ;;
    --model) model=${2:?--model needs a file} ;;
    --text) text=${2:?--text needs a file} ;;
    --calibration) calibration=${2:?--calibration needs a file} ;;
    --threads) threads=${2:?--threads needs a number} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "bench_formats.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done
[[ $pairs =~ ^[1-9][0-9]*$ ]] || {
  echo "bench_formats.sh: --pairs: expected a number above 0, found '$pairs'" >&2
  exit 2
}

[[ -f $model ]] || scripts/get_model.sh
cmake --preset release >/dev/null
cmake --build --preset release --target shoal shoal-worker >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bin=build/release/bin

engine() { # NAME PAIR FILE
  "$bin/shoal-worker" bench engine "$3" --repeat 1 --threads "$threads" --decode-tokens 32 \
    >"$work/$1.$2" 2>"$work/log" </dev/null || {
    cat "$work/log" >&2
    exit 1
  }
}

score() { # NAME FILE
  "$bin/shoal-worker" perplexity "$2" --threads "$threads" --text "$text" >"$work/$1.perplexity" \
    2>"$work/log" </dev/null || {
    cat "$work/log" >&2
    exit 1
  }
  sed -n 's/.*, \([0-9]*\) bytes of weights.*/\1/p' "$work/log" >"$work/$1.bytes"
}

"$bin/shoal" convert "$model" "$work/f32.gguf" --to f32 >&2
score f32 "$work/f32.gguf"
for format in $formats; do
  echo "$format" >&2
  calibrate=()
  [[ $format != int8 ]] || calibrate=(--calibration "$calibration")
  "$bin/shoal" convert "$work/f32.gguf" "$work/$format.gguf" --to "$format" "${calibrate[@]}" >&2
  score "$format" "$work/$format.gguf"
  for ((pair = 1; pair <= pairs; pair++)); do
    engine "$format-f32" "$pair" "$work/f32.gguf"
    engine "$format" "$pair" "$work/$format.gguf"
  done
  rm "$work/$format.gguf"
done

python3 - "$work" "$pairs" "$(basename "$model")" $formats <<'PYTHON'
"""Prints one row for each format, from what the runs left in a folder."""
import json
import pathlib
import statistics
import sys

work, pairs, model, formats = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]


def perplexity(name):
    return float((work / f"{name}.perplexity").read_text().split()[1])


def weight_bytes(name):
    return int((work / f"{name}.bytes").read_text())


def runs(name):
    return [json.loads((work / f"{name}.{pair}").read_text()) for pair in range(1, pairs + 1)]


def ratios(name, figure):
    values = [own[figure] / f32[figure] for own, f32 in zip(runs(name), runs(f"{name}-f32"))]
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


isa = runs(formats[0])[0]["instruction_set"]
print(f"{model} in other formats, {isa}; speed to FP32 as median (lowest to highest) of {pairs} pairs\n")
rows = [["format", "weights, MB", "to FP32", "prefill to FP32", "decode to FP32", "perplexity",
         "change"],
        ["f32", f"{weight_bytes('f32') / 1e6:.0f}", "", "", "", f"{perplexity('f32'):.3f}", ""]]
for name in formats:
    rows.append([name, f"{weight_bytes(name) / 1e6:.0f}",
                 f"{100 * (weight_bytes(name) / weight_bytes('f32') - 1):.1f} %",
                 ratios(name, "prefill_tokens_per_second"),
                 ratios(name, "decode_tokens_per_second_batch_1"), f"{perplexity(name):.3f}",
                 f"{100 * (perplexity(name) / perplexity('f32') - 1):+.2f} %"])
widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
for row in rows:
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
PYTHON
