#!/usr/bin/env bash
# bad_input.sh BIN: command lines that kernels and netvm-compare must refuse, with the words that say what is right.
set -euo pipefail
bin=$1
failed=0

refused() {  # STATUS WORDS COMMAND...: exits so, and says this, once
  local status=$1 words=$2 got=0 output
  shift 2
  output=$(timeout 30 "$@" 2>&1) || got=$?
  if [ "$got" -ne "$status" ] || [ "$(grep -cF -- "$words" <<<"$output")" -ne 1 ]; then
    printf 'FAILED: %s\n  exit status %d instead of %d, or not once the words "%s":\n%s\n' "$*" "$got" "$status" "$words" "$output"
    failed=1
  fi
}

refused 2 "radix: -n: 'many' is not a whole number" "$bin/radix" -n many
refused 2 "radix: -r: '100' is not a power of two" "$bin/radix" -r100
refused 2 "fft: -m: 9 is odd" "$bin/fft" -m 9
refused 2 "ocean: -n: 100 is not a power of two + 2; give 66 or 130" "$bin/ocean" -n100
refused 2 "ocean: -p: '3' is not a power of two" "$bin/ocean" -p3
refused 2 "needs a power of two" "$bin/netvmrun" -n 3 "$bin/ocean" -n34
refused 2 "give -p a multiple of 4" "$bin/netvmrun" -n 4 "$bin/radix" -p6
refused 2 "radix: -n: '0' is not a whole number" "$bin/netvmrun" -n 4 "$bin/radix" -n0
refused 2 "lu: -b: '0' is not a whole number from 1 to 1024" "$bin/lu" -b0
refused 2 "4 processors (4 nodes with 1 threads each) do not fit: this problem needs at most 1" "$bin/netvmrun" -n 4 "$bin/lu" -n16
refused 2 "lu: --placement: 'here' is not one of owner, cyclic, first-touch, one-node" "$bin/lu" --placement here
refused 2 "water-spatial: --time-step: '-1' is not a number above 0" "$bin/water-spatial" --time-step -1
refused 2 "water-nsquared: -n: '1' is not a whole number" "$bin/water-nsquared" -n1
refused 2 "barnes: --theta: '0' is not a number above 0, at most 10" "$bin/netvmrun" -n 2 "$bin/barnes" --theta 0
refused 2 "fmm: --precision: '0.7' is not a number above 1e-16, at most 0.5" "$bin/fmm" --precision 0.7
refused 2 "cholesky: -n: 65 points a side of a cube are too many" "$bin/netvmrun" -n 2 "$bin/cholesky" --grid cube -n65
refused 2 "radiosity: --share: '0' is not a number above 0, at most 1" "$bin/netvmrun" -n 2 "$bin/radiosity" --share 0
refused 2 "raytrace: --scene: 'car' is not one of balls, land" "$bin/raytrace" --scene car
refused 2 "stencil: --diffusion: '0.3' is not a number above 0, at most 0.25" "$bin/stencil" --diffusion 0.3
refused 2 "4 processors (4 nodes with 1 threads each) do not fit: this problem needs at most 3" "$bin/netvmrun" -n 4 "$bin/stencil" --rows 2 --columns 3
refused 2 "hashtable: --load: '1.5' is not a number above 0.01, at most 1" "$bin/netvmrun" -n 2 "$bin/hashtable" --load 1.5
refused 2 "bfs: --scale: '3' is not a whole number from 4 to 32" "$bin/bfs" --scale 3
refused 2 "no program given" "$bin/netvm-compare"
refused 2 "'x' is not a list of numbers of nodes" "$bin/netvm-compare" --nodes 1,x -- "$bin/fft"
refused 1 "there is no program ./no-such-program" "$bin/netvm-compare" --nodes 1 --protocols hlrc -- ./no-such-program
refused 1 "not checked" "$bin/netvm-compare" --nodes 2 --protocols hlrc -- hostname
exit $failed
