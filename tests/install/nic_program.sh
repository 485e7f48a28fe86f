#!/usr/bin/env bash
# Usage: nic_program.sh SOURCE_DIR BUILD_DIR COMPILER
# The program of docs/nic.md, word for word, against an installed package.
set -euo pipefail
source_dir=$1
build_dir=$2
compiler=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=$folder/prefix

cmake --install "$build_dir" --prefix "$prefix" >"$folder/install.log"
cd "$folder"
awk '/^```cpp/ {inside = 1; next} /^```/ {inside = 0} inside' "$source_dir/docs/nic.md" >rows.cpp
grep -q 'netvm/nic.hpp' rows.cpp
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
# shellcheck disable=SC2046  # flags are several words
"$compiler" -std=c++20 -O2 -Wall -Wextra -Wpedantic -Werror rows.cpp -o rows $(pkg-config --cflags --libs netvm)

expected=$(for i in $(seq 0 15); do echo "row $i: $((i * 1000))"; done)
[ "$(./rows)" = "$expected" ] || { echo "alone: wrong answer"; exit 1; }
for mode in direct packet; do
  [ "$("$prefix/bin/netvmrun" -n 2 --shm "$mode" ./rows)" = "$expected" ] || { echo "on 2 nodes, $mode: wrong answer"; exit 1; }
done
echo "docs/nic.md's program: right alone, and on 2 nodes in both modes"
