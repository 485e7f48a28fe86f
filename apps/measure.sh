#!/usr/bin/env bash
# The tables of docs/apps/: every program of apps/splash2 and apps/gas, protocols by numbers of nodes. See --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'HELP'
usage: apps/measure.sh [--nodes N,...] [--protocols NAME,...] [--runs N] [--minutes M] [--pages FOLDER] [--json PREFIX] [--bin FOLDER] [PAGE...]

Runs the programs of apps/splash2 and apps/gas with the sizes of Woo et al. (ISCA 1995), or the nearest that ours take, page by page of docs/apps/, and prints
the tables that stand there. For a machine that does nothing else: about ten minutes with the defaults, twelve at most. Every answer is checked.

  --nodes N,...          numbers of nodes (default 1,2,4)
  --protocols NAME,...   protocols (default hlrc,sc-directory,scope); the programs of apps/gas use none, and run once
  --runs N               run each combination N times and show medians (default 3)
  --minutes M            what a page may take: fewer runs where they are long, but one at least (default 1.2)
  --pages FOLDER         also write each table into FOLDER/PAGE.md, between the lines <!-- measured --> and <!-- /measured -->
                         (apps/measure.sh --pages docs/apps)
  --json PREFIX          also write all results of a page to PREFIX-PAGE.json
  --bin FOLDER           where the programs are (default build/release/bin)
  PAGE...                only these, such as: fmm water

Barnes, fmm and radiosity refuse the protocol entry, which promises less than they need.
Exit status: 0 if every answer is right; 1 if one is wrong or a run failed; 2 if the command line is wrong.
HELP
}

nodes=1,2,4 protocols=hlrc,sc-directory,scope runs=3 minutes=1.2 pages='' json='' bin=$here/../build/release/bin
wanted=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --nodes | --protocols | --runs | --minutes | --pages | --json | --bin)
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

# page: what runs for it; and the programs that use no coherence protocol.
declare -A programs=(
  [radix]="radix -n 1048576 -r 1024" [fft]="fft -m 16" [lu]="lu -n 512 -b 16;lu -n 512 -b 16 --blocks rows" [ocean]="ocean -n 258;ocean -n 258 --grids rows"
  [cholesky]="cholesky" [barnes]="barnes -n 16384" [fmm]="fmm -n 16384" [water]="water-nsquared -n 512;water-spatial -n 512" [radiosity]="radiosity"
  [raytrace]="raytrace" [volrend]="volrend" [stencil]="stencil --rows 2048 --columns 2048" [hashtable]="hashtable -n 1000000 --keys 250000" [bfs]="bfs --scale 16"
)
all=(radix fft lu ocean cholesky barnes fmm water radiosity raytrace volrend stencil hashtable bfs)
declare -A incoherent=([stencil]=1 [hashtable]=1 [bfs]=1)

[ ${#wanted[@]} -gt 0 ] || wanted=("${all[@]}")
for page in "${wanted[@]}"; do
  [ -n "${programs[$page]:-}" ] || { echo "apps/measure.sh: there is no page \"$page\"; there are: ${all[*]}" >&2; exit 2; }
  [ -z "$pages" ] || { grep -qxF '<!-- measured -->' "$pages/$page.md" && grep -qxF '<!-- /measured -->' "$pages/$page.md"; } ||
    { echo "apps/measure.sh: $pages/$page.md lacks the lines <!-- measured --> and <!-- /measured -->" >&2; exit 2; }
done
processors=$(nproc) load=$(cut -d' ' -f1 /proc/loadavg)
machine="$processors processor$([ "$processors" = 1 ] || echo s) ($(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo)), Linux $(uname -r | cut -d- -f1)"
quiet="with nothing else to do"
if ! awk -v load="$load" 'BEGIN { exit !(load < 0.7) }'; then
  quiet="that other work kept busy, too (load $load)"
  echo "apps/measure.sh: the machine is busy (load $load): seconds will say little" >&2
fi

often="medians of $runs runs (of fewer where one takes long)"
[ "$runs" != 1 ] || often="one run each"

# write_page PAGE TABLE: replaces what stands between the marks.
write_page() {
  local text
  text=$(mktemp)
  {
    echo "\`apps/measure.sh $1\`, $often, on a machine with $machine, $quiet. More nodes than processors take turns. The counts are the whole job's, checking included."
    printf '\n```text\n%s\n```\n' "$2"
  } >"$text"
  sed -i -e "/^<!-- measured -->\$/,/^<!-- \/measured -->\$/{/^<!-- measured -->\$/r $text" -e '/^<!-- /!d}' "$pages/$1.md"
  rm -f "$text"
}

status=0
for page in "${wanted[@]}"; do
  chosen=()
  while read -r -d ';' command; do chosen+=(--program "$command"); done <<<"${programs[$page]};"
  of=$protocols
  [ -z "${incoherent[$page]:-}" ] || of=hlrc
  table=$("$bin/netvm-compare" --nodes "$nodes" --protocols "$of" --runs "$runs" --minutes "$minutes" ${json:+--json "$json-$page.json"} "${chosen[@]}") || status=$?
  printf '%s\n\n' "$table"
  [ -z "$pages" ] || [ -z "$table" ] || write_page "$page" "$table"
done
exit $status
