#!/usr/bin/env bash
# The tables of docs/apps/: every program of apps/splash2 and apps/gas, protocols by numbers of nodes. See --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'HELP'
usage: apps/measure.sh [--nodes N,...] [--protocols NAME,...] [--runs N] [--json PREFIX] [--bin FOLDER] [PROGRAM...]

Runs the programs of apps/splash2 and apps/gas with the sizes of Woo et al. (ISCA 1995), or the nearest that ours take, and prints the tables that
docs/apps/ shows. For a machine that does nothing else; about half an hour with the defaults. Every answer is checked.

  --nodes N,...          numbers of nodes (default 1,2,4)
  --protocols NAME,...   protocols (default hlrc,sc-directory,scope); the programs of apps/gas use none, and run once
  --runs N               run each combination N times and show medians (default 5)
  --json PREFIX          also write all results to PREFIX-splash2.json and PREFIX-gas.json
  --bin FOLDER           where the programs are (default build/release/bin)
  PROGRAM...             only these, such as: fmm radiosity

Barnes, fmm and radiosity refuse the protocol entry, which promises less than they need.
Exit status: 0 if every answer is right; 1 if one is wrong or a run failed; 2 if the command line is wrong.
HELP
}

nodes=1,2,4 protocols=hlrc,sc-directory,scope runs=5 json='' bin=$here/../build/release/bin
wanted=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --nodes | --protocols | --runs | --json | --bin)
      [ $# -ge 2 ] || { echo "apps/measure.sh: $1 needs a value; see apps/measure.sh --help" >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    -*) echo "apps/measure.sh: unknown option \"$1\"; see apps/measure.sh --help" >&2; exit 2 ;;
    *) wanted+=("$1") ;;
  esac
  shift
done
[ -x "$bin/netvm-compare" ] || { echo "apps/measure.sh: there is no netvm-compare in $bin: build it (docs/building.md), or give --bin" >&2; exit 2; }

splash2=(
  "radix -n 1048576 -r 1024" "fft -m 16" "lu -n 512 -b 16" "lu -n 512 -b 16 --blocks rows" "ocean -n 258" "ocean -n 258 --grids rows"
  "cholesky" "barnes -n 16384" "fmm -n 16384" "water-nsquared -n 512" "water-spatial -n 512" "radiosity" "raytrace" "volrend"
)
gas=("stencil --rows 2048 --columns 2048" "hashtable -n 1000000 --keys 250000" "bfs --scale 16")

# choose COMMAND...: those of the wanted programs, each behind a --program, in `chosen`.
choose() {
  chosen=()
  local command program
  for command in "$@"; do
    for program in "${wanted[@]:-${command%% *}}"; do
      if [ "$program" = "${command%% *}" ]; then chosen+=(--program "$command"); fi
    done
  done
}

for program in "${wanted[@]}"; do
  printf '%s\n' "${splash2[@]%% *}" "${gas[@]%% *}" | grep -qxF -- "$program" ||
    { echo "apps/measure.sh: there is no program \"$program\"; there are: $(printf '%s\n' "${splash2[@]%% *}" "${gas[@]%% *}" | uniq | paste -sd ' ')" >&2; exit 2; }
done
status=0
choose "${splash2[@]}"
if [ ${#chosen[@]} -gt 0 ]; then
  "$bin/netvm-compare" --nodes "$nodes" --protocols "$protocols" --runs "$runs" ${json:+--json "$json-splash2.json"} "${chosen[@]}" || status=$?
fi
choose "${gas[@]}"
if [ ${#chosen[@]} -gt 0 ]; then
  "$bin/netvm-compare" --nodes "$nodes" --protocols hlrc --runs "$runs" ${json:+--json "$json-gas.json"} "${chosen[@]}" || status=$?
fi
exit $status
