#!/usr/bin/env bash
# misuse.sh BIN FOLDER: what cannot work ends the job with a sentence that names the macro, its line, and what to do.
set -euo pipefail
bin=$1 folder=$2
[ -x "$folder/misuse" ] || exit 77 # build.sh was skipped
cd "$folder"

failed=0
expect() { # NODES TEXT PROGRAM...
  local nodes=$1 text=$2 output status=0
  shift 2
  output=$("$bin/netvmrun" -n "$nodes" --timeout 30 "$@" 2>&1 </dev/null) || status=$?
  if [ $status -eq 0 ] || ! grep -qE "$text" <<<"$output"; then
    printf 'FAILED: -n %s %s: status %s, and no "%s" in:\n%s\n' "$nodes" "$*" "$status" "$text" "$output"
    failed=1
  fi
}
expect 2 'misuse\.C:[0-9]+: LOCK by thread 0 \(main\) on node 0: the object at 0x[0-9a-f]+ is not shared.*G_MALLOC' ./misuse stack
expect 2 'misuse\.C:[0-9]+: LOCK .*holds the lock already' ./misuse twice
expect 2 'misuse\.C:[0-9]+: UNLOCK .*does not hold the lock' ./misuse unlock
expect 2 'fork\(\) by thread 0.*CREATE' ./misuse fork
expect 2 'execl\(\) by thread 0.*posix_spawn' ./misuse exec
expect 2 'execv\(\) by thread 0.*posix_spawn' ./misuse execv
expect 2 'shmat\(\) by thread 0.*G_MALLOC' ./misuse shmat
expect 2 'shmget\(\) by thread 0.*G_MALLOC' ./misuse shmget
expect 2 'misuse\.C:[0-9]+: G_MALLOC .*32 TiB' ./misuse huge
expect 2 'misuse\.C:[0-9]+: G_FREE .*freed twice' ./misuse free
expect 2 'misuse\.C:[0-9]+: BARRIER .*waits for 3 threads, but the program has 1' ./misuse barrier
expect 2 'misuse\.C:[0-9]+: WAIT_FOR_END .*waits for 5 threads, but the program has 1' ./misuse wait
expect 2 'misuse\.C:[0-9]+: CREATE .*at most 1024' ./misuse many
expect 2 'misuse\.C:[0-9]+: CREATE by thread [0-9]+ .*only the thread that runs main' ./misuse create
expect 2 'node [01]\]: thread [01] \((main|Work)\) crashed: Segmentation fault at 0x0, which is not shared memory' ./misuse null
expect 2 'thread [01] .* crashed: .* beyond the end of the 1048576 bytes that node 0 allocated at misuse\.C:[0-9]+' ./misuse beyond
for trap in userfaultfd mprotect; do
  expect 2 'thread [01] \((main|Work)\) crashed: .* below its stack of [0-9]+ bytes, which is full.*ulimit -s' --trap $trap ./misuse overflow
  expect 2 'thread 0 \(main\) crashed: .* below its stack of [0-9]+ bytes, which is full.*ulimit -s' --trap $trap ./misuse 'overflow main'
done
expect 2 'thread [01] .* crashed: Floating point exception' ./misuse divide
expect 2 'node [01] .*exited with status 9' ./misuse status
expect 2 'MAIN_INITENV: .*link the program with netvm-cc' ./by_hand
expect 2 'globals cannot be shared: .*PIE.*netvm-cc' ./pie
expect 2 'globals cannot be shared: .*pages of its own.*netvm-cc' ./lazy
# shellcheck disable=SC2016  # the program's shell expands it
expect 2 'runs another executable than the nodes before it' sh -c 'if [ "$NETVM_NODE" = 1 ]; then exec ./misuse_cxx none; fi; exec ./misuse none'
expect 2 'programs of the porting kit bind none: choose hlrc' --protocol entry ./misuse none
expect 2 'on-death=continue: an unchanged program cannot go on' --on-death=continue ./misuse none
expect 2 'choose userfaultfd or mprotect' env NETVM_TRAP=checked ./misuse none

# Under release consistency the write may never be seen; a message says so, and the job is ended here. Where it is seen after all (an update, a copy that
# is out of date), nothing needs to be said.
spin() { # PROTOCOL TRAP [FILE FOR FAILURES]
  local file=spin.$1.$2.log output seen=no job
  "$bin/netvmrun" -n 2 --timeout 60 --protocol "$1" --trap "$2" ./misuse spin >"$file" 2>&1 &
  job=$!
  until output=$(grep -m1 -E 'has been spinning|the spin has ended|cannot' "$file") || ! kill -0 $job 2>/dev/null; do sleep 0.1; done
  kill $job 2>/dev/null || true
  wait $job || true
  case $output in
    *cannot*) echo "no $2 here: spins are not looked at" && return ;;
    'misuse: the spin has ended') [[ $1 == sc-* || $1 == update || $1 == self || $1 == lease ]] && seen=yes ;;
    *'the global variable done. Under protocol '"$1 "*sc-directory) [[ $1 != sc-* ]] && seen=yes ;;
  esac
  [ $seen = yes ] || echo "$1 $2 $output" >>"${3:-spin.again}"
}
rm -f spin.again spin.failures
touch spin.again
for protocol in hlrc lrc erc update self lease scope sc-directory sc-fixed sc-dynamic; do spin $protocol userfaultfd & done
wait
spin hlrc mprotect
# Among so many that spin one may look so late that the write has come: alone it does not.
while read -r protocol trap _; do spin "$protocol" "$trap" spin.failures; done <spin.again
[ ! -s spin.failures ] || { sed 's/^/FAILED: spin under /' spin.failures; failed=1; }

output=$("$bin/netvmrun" -n 2 ./misuse system) || failed=1
[ "$output" = "echo from another program" ] || [ "$output" = "from another program" ] || { echo "system(): $output"; failed=1; }
output=$("$bin/netvmrun" -n 3 ./suite 2 2>&1) || failed=1
grep -q 'suite\.C:[0-9]*: CREATE of 2 threads on 3 nodes: some nodes have none' <<<"$output" || { echo "no word about idle nodes: $output"; failed=1; }
grep -q 'recompile with -fPI' not_pic.log || { echo "not_pic: $(cat not_pic.log)"; failed=1; }
exit $failed
