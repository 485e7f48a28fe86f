#!/usr/bin/env bash
# run.sh BIN FOLDER PROTOCOL TRAP: the programs of build.sh, alone and on several nodes, with as many threads as nodes, more, and fewer.
set -euo pipefail
bin=$1 folder=$2 protocol=$3 trap=$4
[ -x "$folder/suite" ] || exit 77 # build.sh was skipped
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

failed=0
check() { # NODES PROGRAM [argument...]; stdin of the program is input
  local nodes=$1 program=$2 output
  shift 2
  if ! output=$("$bin/netvmrun" -n "$nodes" --protocol "$protocol" --trap "$trap" --timeout 60 "$folder/$program" "$@" <input 2>&1) ||
    [[ $output != *"$program: passed"* ]]; then
    printf 'FAILED: -n %s --protocol %s --trap %s %s %s\n%s\n' "$nodes" "$protocol" "$trap" "$program" "$*" "$output"
    failed=1
  fi
}
numbers="1 2 3 4 5 6 7 8 9 10"
echo "1 $numbers" >input
check 1 suite 1
check 1 suite 3
check 2 suite 2
check 4 suite 8
check 3 suite 4
check 2 atomics 4
check 3 private_globals 3
for shape in "1 1" "1 2" "3 3" "2 5"; do
  printf '%s\n%s\n' "${shape#* }" "$numbers" >input
  check "${shape% *}" one_by_one
done
exit $failed
