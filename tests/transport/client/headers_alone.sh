#!/bin/sh
# Compiles each header of transport/client alone, from a folder that holds nothing else.
#   headers_alone.sh COMPILER
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/transport"
cp -r "$root/transport/client" "$folder/transport/"
cd "$folder"
count=0
for header in transport/client/*.h; do
  echo "#include \"$header\"" | "$1" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I . -x c++ -
  count=$((count + 1))
done
test "$count" -gt 0
echo "$count headers compile alone"
