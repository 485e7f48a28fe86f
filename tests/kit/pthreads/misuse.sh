#!/usr/bin/env bash
# misuse.sh BIN FOLDER: what cannot work ends the job with a sentence that names the call and says what to do; programs end as they say; placement.
set -euo pipefail
bin=$1 folder=$2
cd "$folder"

failed=0
expect() { # STATUS (or "some") TEXT OPTION... PROGRAM...
  local wanted=$1 text=$2 output status=0
  shift 2
  output=$("$bin/netvmrun" --timeout 30 "$@" 2>&1 </dev/null) || status=$?
  if { [ "$wanted" = some ] && [ $status -eq 0 ]; } || { [ "$wanted" != some ] && [ $status -ne "$wanted" ]; } || ! grep -qE "$text" <<<"$output"; then
    printf 'FAILED: %s: status %s, wanted %s and "%s" in:\n%s\n' "$*" "$status" "$wanted" "$text" "$output"
    failed=1
  fi
}
expect some 'pthread_mutex_unlock\(\) by thread 1 .* on node 0: .*does not hold.*semaphore' -n 2 ./misuse unlock
expect some 'pthread_mutex_lock\(\) by thread 0 \(main\).*holds the mutex already.*RECURSIVE' -n 2 ./misuse again
expect some 'free\(\) by thread 1 .*freed twice' -n 2 ./misuse twice
expect some 'fork\(\) by thread 1 .*posix_spawn' -n 2 ./misuse fork
expect some 'sigaction\(\) by thread 1 .*SIGSEGV and SIGBUS are NetVM' -n 2 ./misuse handler
expect some 'pthread_cancel\(\) by thread 0 .*look at a flag' -n 2 ./misuse cancel
expect some 'pthread_kill\(\) by thread 0 .*NETVM_PLACE' -n 2 --place 1 ./misuse kill
expect some 'thread 1 .* crashed: Segmentation fault at 0x0, which is not shared memory' -n 2 ./misuse null
for trap in userfaultfd mprotect; do
  expect some 'thread 1 .* crashed: .* below its stack of [0-9]+ bytes, which is full.*setstacksize' -n 2 --trap $trap ./misuse overflow
done
expect some 'thread 1 .* crashed: .* [0-9]+ bytes beyond the end of the 1048576 bytes that node 0 allocated in main\+0x' -n 2 ./misuse beyond
expect 124 'thread 1 .* has been spinning for 2 seconds, reading 0x[0-9a-f]+, 8 bytes into the [0-9]+ bytes that were allocated in main\+0x' -n 2 --place 1 --protocol hlrc --timeout 5 ./misuse spin
expect 0 'atomic instructions \(in work\+0x[0-9a-f]+\)\. Under protocol hlrc .*sc-directory' -n 2 --place 1 --protocol hlrc ./c11
if grep -q 'atomic' <<<"$("$bin/netvmrun" -n 2 --protocol hlrc ./threads 2>&1)"; then echo "threads: it has no atomic instructions"; failed=1; fi
expect 0 'the 1025th on node [01]; a node has at most 1024.*more nodes' -n 2 ./misuse many
expect 0 'made 2048, then Resource temporarily unavailable' -n 2 ./misuse many
# A FILE of node 0 in a thread of node 1.
for call in fprintf fgets fclose; do
  expect some "netvm.* $call\\(\\) by thread 2 \\(its start routine\\) on node 1: in run.*, the file was opened on node 0.*open the file in a thread of this node" -n 2 ./misuse $call
done
expect some 'thread 2 .* crashed: .* in a FILE that node 0 opened: ' -n 2 ./misuse inlined
expect some 'fileno\(\) by thread 1 .* on node 1: the file was opened on node 0.* C\+\+ stream' -n 2 --place 1 ./cxx 'a stream of another node'
# Standard input is node 0's: a descriptor of all, a FILE of one.
for call in getchar scanf; do # the header makes getc() of the one
  expect some "(getc|scanf)\\(\\) by thread 1 .* on node 1: in run.*standard input is node 0's.*read\\(\\) from descriptor 0" -n 2 --place 1 ./misuse $call
done
if ! grep -q 'has read two' <<<"$(printf 'one\ntwo\n' | "$bin/netvmrun" -n 2 --timeout 30 ./misuse stdin 2>&1)"; then echo "stdin: not read by node 1"; failed=1; fi
expect some "dup2\\(\\) by thread 1 .* number 3 may be a descriptor of NetVM" -n 2 ./misuse dup2
expect 0 'stdout of all' -n 2 --place 1 ./misuse 'own file'
expect 0 'stderr of all' -n 2 --place 1 ./misuse 'own file'
expect 0 'all got EAGAIN' -n 2 ./misuse stack
expect 0 'cannot be started on node 1 with a stack of 1099511627776 bytes: Cannot allocate memory.*--address-space' -n 2 ./misuse stack
expect some 'on-death=continue: an unchanged program cannot go on' -n 2 --on-death=continue ./misuse none
expect 0 "the program's handler" -n 1 --on-death=continue ./misuse none
# Who handles the signal that ends the job has time to end in good order.
"$bin/netvmrun" -n 2 --timeout 60 ./misuse interrupted >interrupted.log 2>&1 &
job=$!
until grep -q 'is ready' interrupted.log || ! kill -0 $job 2>/dev/null; do sleep 0.1; done
kill $job 2>/dev/null || true
wait $job || true
if ! grep -q 'has saved' interrupted.log || grep -q terminate interrupted.log; then
  echo "FAILED: interrupted: $(cat interrupted.log)"
  failed=1
fi
# What the watchdog calls main()'s pthread_join(); that the nodes wait for requests is nobody's business.
"$bin/netvmrun" -n 2 --timeout 60 --watchdog 0.2 --place 1 ./misuse sleep >watchdog.log 2>&1 &
job=$!
until grep -q 'has waited' watchdog.log || ! kill -0 $job 2>/dev/null; do sleep 0.1; done
kill $job 2>/dev/null || true
wait $job || true
if ! grep -q "of node 0 has waited [0-9.]* s for the thread's end at 0x" watchdog.log || grep -q 'for the \(semaphore\|flag\)' watchdog.log; then
  echo "FAILED: the watchdog's report: $(cat watchdog.log)"
  failed=1
fi
expect 5 "the program's handler" -n 2 ./misuse status
expect 7 "the program's handler" -n 2 --place 1 ./misuse exit
expect 0 "the program's handler" -n 3 --place 2 ./misuse exit0
expect some 'rely on more than protocol scope gives: choose sc-directory' -n 2 --protocol scope ./misuse none
expect 0 'place: 012012$' -n 3 ./place
expect 0 'place: 001122$' -n 3 --place block:2 ./place
expect 0 'place: 000011$' -n 3 --threads 4 --place block ./place
expect 0 'place: 211211$' -n 3 --place 2,1,1 ./place
expect some '3 is not from 0 to 2.*cyclic, block' -n 3 --place 0,3 ./place
expect 0 'place: 000000$' -n 1 ./place
expect 0 'place_by_hand ran 3 times, each by itself.*build it with netvm-cc' -n 3 ./place_by_hand
if [[ $("$bin/netvmrun" -n 2 hostname 2>&1) == *itself* ]]; then echo "hostname has no threads to spread"; failed=1; fi
expect 0 'hostname ran 2 times, each by itself, for it does not join the job$' -n 2 -v hostname
if [[ $("$bin/netvmrun" -n 2 ./misuse status 2>&1) == *"had left"* ]]; then echo "status: nobody asked when it left the job"; failed=1; fi
# What the wrapper says of what it cannot do.
wrapper() { # STATUS TEXT COMMAND...
  local wanted=$1 text=$2 output status=0
  shift 2
  output=$("$@" 2>&1 </dev/null) || status=$?
  if [ $status -ne "$wanted" ] || [[ $output != *"$text"* ]]; then echo "FAILED: $*: status $status: $output"; failed=1; fi
}
wrapper 2 'netvm-cc: -fsanitize=address,undefined: this sanitizer watches the memory of one process' "$bin/netvm-cc" -fsanitize=address,undefined x.c
wrapper 127 'netvm-cc: there is no compiler nosuchcc: install it, or name another with NETVM_CC' env NETVM_CC=nosuchcc "$bin/netvm-cc" x.c
wrapper 0 '-lnetvm_kit' "$bin/netvm-cc" --show -x c -
if [ "$(./place)" != "place: 000000" ]; then echo "alone: $(./place)"; failed=1; fi
exit $failed
