#!/usr/bin/env bash
# run.sh BIN FOLDER PROTOCOL TRAP PROGRAM...: each program of build.sh, on 1, 2 and 4 nodes.
set -euo pipefail
bin=$1 folder=$2 protocol=$3 trap=$4
shift 4
cd "$folder"
failed=0
for program in "$@"; do
  [ -x "$program" ] || { echo "$program was not built here"; continue; }
  for nodes in 1 2 4; do
    if ! output=$("$bin/netvmrun" -n $nodes --protocol "$protocol" --trap "$trap" --timeout 60 "./$program" 2>&1) || [ "$output" != "$program: passed" ]; then
      printf 'FAILED: -n %s --protocol %s --trap %s %s\n%s\n' $nodes "$protocol" "$trap" "$program" "$output"
      failed=1
    fi
  done
done
exit $failed
