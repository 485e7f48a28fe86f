#!/usr/bin/env bash
# Usage: nic_program.sh SOURCE_DIR BUILD_DIR COMPILER
# The programs of docs/nic.md, word for word, against an installed package.
set -euo pipefail
. "$(dirname "$0")/installed.sh"
cd "$folder"
program_of docs/nic.md >rows.cpp
grep -q 'netvm/nic.hpp' rows.cpp
compile rows.cpp rows

expected=$(for i in $(seq 0 15); do echo "row $i: $((i * 1000))"; done)
[ "$(./rows)" = "$expected" ] || { echo "alone: wrong answer"; exit 1; }
for mode in direct packet; do
  [ "$("$prefix/bin/netvmrun" -n 2 --shm "$mode" ./rows)" = "$expected" ] || { echo "on 2 nodes, $mode: wrong answer"; exit 1; }
done
program_of docs/nic.md 2 >loan.cpp
grep -q 'region_create' loan.cpp
compile loan.cpp loan
expected=$(printf 'read: ok, 42\nwrite: E_PERM\nthe key guessed: E_KEY\nbehind the end: E_RANGE\nafter it was revoked: E_REVOKED')
[ "$(./loan)" = "$expected" ] || { echo "loan, alone: wrong answer"; exit 1; }
for mode in direct packet; do
  [ "$("$prefix/bin/netvmrun" -n 2 --shm "$mode" ./loan)" = "$expected" ] || { echo "loan, on 2 nodes, $mode: wrong answer"; exit 1; }
done
echo "docs/nic.md's programs: right alone, and on 2 nodes in both modes"
