#!/usr/bin/env bash
# kernels.sh BIN PROTOCOL TRAP: each kernel on several nodes and threads, in its variants; every answer is checked by the kernel itself.
# Ends with 77 (skipped) where the kernel of this machine lacks the trap.
set -euo pipefail
bin=$1 protocol=$2 trap=$3

if ! "$bin/netvmrun" -n 1 --trap "$trap" --timeout 30 "$bin/fft" -m4 --verify self >/dev/null 2>&1; then
  if [ "$trap" = userfaultfd ]; then
    echo "the trap $trap does not work here"
    exit 77
  fi
fi

failed=0
check() {  # NODES THREADS SHM PROGRAM...
  local nodes=$1 threads=$2 shm=$3
  shift 3
  local command=("$bin/netvmrun" -n "$nodes" --threads "$threads" --shm "$shm" --protocol "$protocol" --trap "$trap" --timeout 60 "$bin/$1" "${@:2}"
                 --sequential-runs 1)
  local output
  if ! output=$("${command[@]}" 2>&1) || [[ $output != *"verified: yes"* ]]; then
    printf 'FAILED: %s\n%s\n' "${command[*]}" "$output"
    failed=1
  fi
}

needs_scope() {  # the same for a program that needs scope consistency and says so under a protocol that promises less
  if [ "$protocol" != entry ]; then
    check "$@"
    return
  fi
  local output status=0
  output=$("$bin/netvmrun" -n "$1" --threads "$2" --protocol entry --trap "$trap" --timeout 60 "$bin/$4" "${@:5}" 2>&1) || status=$?
  if [ $status -ne 2 ] || [ "$(grep -cF "needs scope consistency" <<<"$output")" -ne 1 ]; then
    printf 'FAILED: %s under entry: status %d instead of 2, or not said once why:\n%s\n' "$4" $status "$output"
    failed=1
  fi
}

check 1 1 direct radix -n20000 -r256
check 2 1 direct radix -n100000
check 4 1 direct radix -n 262144 -s -t
check 3 2 packet radix -n 30011 -r 64 -m 1000000 --permute direct --padding none --placement one-node
check 1 2 direct fft -m6
check 2 1 packet fft -m12
check 4 1 direct fft -m14 -t -s
check 3 1 direct fft -m10 -n1024 -l6 --padding none --placement cyclic
check 1 2 direct ocean -n34
check 2 1 direct ocean -n66
check 4 1 direct ocean -n66 -s -e1e-9
check 2 2 packet ocean -n34 --borders direct --cycle W
check 4 2 direct ocean -n18 -t 14400 -r 10000
check 4 1 direct ocean -n18 -e1e-5 --grids rows --parts strips
check 2 2 packet ocean -n18 -e1e-5 --grids rows --borders direct --placement first-touch --padding none
check 1 1 direct lu -n100
check 3 1 direct lu -n130 -b16
check 4 1 packet lu -n96 -b8 -t -s --padding none --placement cyclic
check 2 2 direct lu -n100 -b7 --blocks rows --placement first-touch
check 2 1 direct water-nsquared -n64
check 3 2 packet water-nsquared -n77 --steps 5 --group 3 -s
check 4 1 direct water-nsquared -n125 --padding none
check 2 1 direct water-spatial -n64
check 4 2 direct water-spatial -n216 --cutoff 4 --time-step 0.5 --steps 10
check 3 1 packet water-spatial -n125 --placement cyclic
needs_scope 2 1 direct barnes -n500 --steps 2
needs_scope 3 2 packet barnes -n1000 --steps 2 --theta 0.8
needs_scope 4 1 direct barnes -n2000 --steps 2 -s --padding none --placement first-touch
needs_scope 3 2 packet fmm -n500 --steps 2 --clusters 1 --precision 1e-3
needs_scope 4 1 direct fmm -n1500 --steps 2 -s --distribution uniform --padding none --placement first-touch
needs_scope 3 2 packet radiosity --share 0.01 --area 0.5
needs_scope 4 1 direct radiosity --share 0.02 --area 0.5 -s --padding none --placement first-touch
check 2 1 direct raytrace --detail 1 --width 64 --height 48
check 3 2 packet raytrace --scene land --detail 1 --width 50 --height 50 -a2 --tile 5 -s
check 4 1 direct raytrace --detail 2 --width 64 --height 64 --placement first-touch
check 1 2 direct cholesky -n1
check 3 2 packet cholesky -n20 -B8 -t
check 4 1 direct cholesky --grid cube -n7 -s --padding none
check 2 1 direct volrend -n24 --pixels 48 --frames 2
check 3 2 packet volrend -n20 --pixels 37 --frames 2 --tile 5 -s
check 4 1 direct volrend -n32 --pixels 48 --frames 1 --placement one-node
exit $failed
