#!/usr/bin/env bash
# Runs all scenarios in several shapes of job. Usage: run_scenarios.sh NETVMRUN SCENARIOS
set -u
netvmrun=$1
scenarios=$2
shapes=(
  "-n 1"
  "-n 2"
  "-n 2 --trap mprotect"
  "-n 2 --shm packet"
  "-n 3 --trap mprotect --shm packet --protocol sc-directory"
  "-n 3 --threads 2 --protocol sc-directory"
  "-n 4 --threads 3 --shm packet"
  "-n 4 --threads 3 --trap mprotect --protocol sc-directory"
  "-n 4 --threads 2"
  "-n 2 --memory 320K"
  "-n 3 --threads 2 --memory 384K --trap mprotect --shm packet"
  "-n 2 --threads 2 --memory 384K --protocol sc-directory"
  "-n 4 --threads 2 --protocol sc-fixed"
  "-n 3 --threads 2 --memory 384K --trap mprotect --shm packet --protocol sc-dynamic"
)
failed=0
run() {
  local began=$SECONDS
  # shellcheck disable=SC2086  # a shape is several words
  if timeout 120 "$netvmrun" $1 "$scenarios" "$2"; then
    echo "passed: netvmrun $1 netvm_api_scenarios $2 ($((SECONDS - began)) s)"
  else
    echo "FAILED ($?): netvmrun $1 netvm_api_scenarios $2"
    failed=1
  fi
}
for shape in "${shapes[@]}"; do run "$shape" all; done
if ! timeout 60 "$scenarios" all; then
  echo "FAILED: alone, without netvmrun"
  failed=1
fi
# The checked trap serves accessors only.
run "-n 2 --trap checked" accessors
# One scenario alone names the culprit when "all" fails.
if [ $failed -ne 0 ]; then
  for name in $("$scenarios" list); do run "${shapes[-1]}" "$name"; done
fi
exit $failed
