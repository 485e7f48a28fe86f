#!/usr/bin/env bash
# From a fresh Debian 12 to a table of SPLASH-2 kernels on several nodes. See --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

usage() {
  cat <<'HELP'
usage: apps/demo.sh [--no-install] [--runs N] [--json FILE]

Installs what is missing (apt, as root or with sudo), builds NetVM into build/release, and runs SPLASH-2 programs on 1, 2 and 4
nodes, each node a process, under the protocols hlrc and sc-directory:

  radix   1,048,576 keys, radix 1024
  fft     2^16 and 2^20 points
  lu      512 x 512 elements
  ocean   258 x 258 points
  barnes  4096 bodies

Every answer is checked by the kernel's own test and against a sequential run. Prints a table: program, nodes, protocol, seconds, speed-up
over the sequential run, verified, page faults, messages, bytes.

  --no-install   install nothing
  --runs N       run each combination N times and show medians (default 1)
  --json FILE    also write all results to FILE

Works from any directory. Exit status 0 if every answer is right.
HELP
}

install=1
runs=1
json=()
called_from=$OLDPWD
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --no-install) install=0 ;;
    --runs) runs=${2:?apps/demo.sh: --runs needs a number}; shift ;;
    --json)
      file=${2:?apps/demo.sh: --json needs a file}
      case "$file" in /*) ;; *) file=$called_from/$file ;; esac
      json=(--json "$file")
      shift
      ;;
    *) echo "apps/demo.sh: unknown option \"$1\"; see apps/demo.sh --help" >&2; exit 2 ;;
  esac
  shift
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# step TEXT COMMAND...: runs it quietly; shows its output if it fails.
step() {
  local text=$1 began=$SECONDS
  shift
  printf '%s ... ' "$text"
  if ! "$@" >"$log" 2>&1; then
    printf 'FAILED\n'
    tail -n 60 "$log"
    exit 1
  fi
  printf 'done (%d s)\n' $((SECONDS - began))
}

if [ $install -eq 1 ]; then
  printf 'Packages ... '
  if apps/install-deps.sh --check >/dev/null 2>&1; then
    printf 'all there\n'
  else
    printf 'some are missing\n'
    apps/install-deps.sh
  fi
fi
step "Configuring build/release" cmake --preset release
step "Building (some minutes the first time)" \
  cmake --build build/release -j "$(nproc)" --target apps/all  # what is installed; no tests

printf '\n36 combinations of program, nodes and protocol, %s run(s) each; every answer is checked.\n\n' "$runs"
status=0
build/release/bin/netvm-compare --nodes 1,2,4 --protocols hlrc,sc-directory --runs "$runs" "${json[@]}" \
  --program "radix -n 1048576 -r 1024" --program "fft -m 16" --program "fft -m 20" --program "lu -n 512" --program "ocean -n 258" \
  --program "barnes -n 4096" || status=$?

echo
if [ $status -eq 0 ]; then
  echo "All answers are right."
else
  echo "Something went wrong; see above." >&2
fi
exit $status
