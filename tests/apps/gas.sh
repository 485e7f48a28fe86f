#!/usr/bin/env bash
# gas.sh BIN: the programs of a global address space on several nodes and threads, over direct and packet transport. They use no coherence, so each run names
# another protocol: none may matter. Every answer is checked by the program itself.
set -euo pipefail
bin=$1
failed=0

check() {  # NODES THREADS SHM PROTOCOL PROGRAM...
  local nodes=$1 threads=$2 shm=$3 protocol=$4
  shift 4
  local command=("$bin/netvmrun" -n "$nodes" --threads "$threads" --shm "$shm" --protocol "$protocol" --timeout 60 "$bin/$1" "${@:2}"
                 --sequential-runs 1)
  local output
  if ! output=$("${command[@]}" 2>&1) || [[ $output != *"verified: yes"* ]]; then
    printf 'FAILED: %s\n%s\n' "${command[*]}" "$output"
    failed=1
  fi
}

check 1 1 direct hlrc stencil --rows 1 --columns 1 --steps 3
check 2 2 direct entry stencil --rows 97 --columns 5 --steps 50 -s
check 4 1 direct sc-directory stencil --rows 64 --columns 64 --steps 100 --exchange get
check 3 2 packet scope stencil --rows 2 --columns 90 --steps 40
check 1 2 direct lrc hashtable -n 5000 --keys 1
check 4 1 direct erc hashtable -n 20000 --keys 3000 --load 1 -s
check 3 2 packet update hashtable -n 1000 --keys 50 --load 0.1
check 2 1 direct self hashtable -n 3000 --keys 100000
check 1 1 direct lease bfs --scale 5 --roots 3
check 4 1 direct sc-fixed bfs --scale 10 -s
check 3 2 packet sc-dynamic bfs --scale 7 --roots 2
check 2 2 direct hlrc bfs --scale 9 --edge-factor 1 --roots 4
exit $failed
