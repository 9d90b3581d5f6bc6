#!/bin/bash
# Makes a random-weight model of the llama family with 1.1 billion weights in Q4_0, for benchmarks of a
# size where the memory's speed decides: hidden 2048, 22 layers, 32 query and 4 key/value heads, MLP
# 5632, vocabulary 32000. The same bytes on every machine. It talks nonsense. Other programs that read
# GGUF load it too.
# Takes about ten seconds after the build. Leaves FOLDER/llama_1b_q4_0.gguf (620 MB) and build/release;
# needs as much memory as twice the file.
#
# Usage: scripts/make_model.sh [FOLDER]
#   FOLDER is models by default. Prints the file's path; one that is there already is kept.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${1:-} in
  --help | -h)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '$d'
    exit 0
    ;;
  -*)
    echo "make_model.sh: unknown argument $1: see --help" >&2
    exit 2
    ;;
esac
folder=${1:-$root/models}
spec=llama_1b_q4_0
if [[ ! -f $folder/$spec.gguf ]]; then
  cmake -S "$root" --preset release >/dev/null
  cmake --build "$root/build/release" --target shoal_write_model >&2
  # Under another name until it is whole.
  mkdir -p "$folder"
  part=$(mktemp -d "$folder/part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  "$root/build/release/bin/shoal_write_model" "$spec" "$part" >/dev/null
  mv "$part/$spec.gguf" "$folder/"
fi
echo "$folder/$spec.gguf"
