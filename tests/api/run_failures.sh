#!/usr/bin/env bash
# Scenarios that must fail, quickly and with the right words. Usage: run_failures.sh NETVMRUN SCENARIOS
set -u
netvmrun=$1
scenarios=$2
failed=0
# expect STATUS SCENARIO WORDS OPTIONS...: the exit status (or "any"), and an extended regular expression that the output must match.
expect() {
  local status=$1 name=$2 words=$3
  shift 3
  local output began=$SECONDS code
  output=$(timeout 30 "$netvmrun" "$@" "$scenarios" "$name" 2>&1)
  code=$?
  if { [ "$status" = any ] && [ $code -eq 0 ]; } || { [ "$status" != any ] && [ $code -ne "$status" ]; } || ! grep -qE "$words" <<<"$output" || [ $((SECONDS - began)) -gt 20 ]; then
    echo "FAILED: netvmrun $* $name: status $code (wanted $status), $((SECONDS - began)) s, output (wanted /$words/):"
    echo "$output" | head -n 20
    failed=1
  else
    echo "passed: netvmrun $* $name: status $code"
  fi
}
segv=139
traps="userfaultfd mprotect"
if ! "$netvmrun" --trap userfaultfd "$scenarios" identity >/dev/null 2>&1; then
  echo "skipped: userfaultfd cannot be used on this machine"
  traps=mprotect
fi
for trap in $traps; do
  expect $segv wild_inside 'wild access to 0x20.*write.*bytes beyond the end of "the table" \(4 bytes at 0x20' -n 2 --trap $trap
  expect $segv wild_inside 'node 1 .*signal 11' -n 2 --trap $trap
  expect $segv wild_outside 'node 0 .*signal 11' -n 2 --trap $trap
done
expect 1 allocation_beyond_the_range '1024 TiB.*are free.*NETVM_ADDRESS_SPACE' -n 2
expect 1 allocation_until_exhausted '256 MiB.*NETVM_ADDRESS_SPACE' -n 2 --address-space 1G
expect any exception_in_a_section 'the kettle boiled over' -n 3 --threads 2
expect any deadlock 'watchdog: this is a deadlock: thread [0-9]+ of node [01] waits for the mutex at 0x2' -n 2 --watchdog 0.5
expect any exception_in_main 'main gave up' -n 2
expect any exception_in_main 'main gave up' -n 2 --watchdog 5
expect any leaves_silently 'node 0 .*without' -n 2 --watchdog 5
expect any leaves_silently 'node 0 .*without' -n 2
expect any returns_early 'node [01] calls end of the job .*node [01] calls barrier|node [01] calls barrier .*node [01] calls end of the job' -n 2
expect 1 sizes_differ 'symmetric_all.*16 to 20 bytes' -n 2
for trap in $traps; do expect $segv executes_shared_memory 'node 0 .*signal 11' -n 2 --trap $trap; done
expect any late_for_a_barrier 'watchdog: node 0 has waited .* at the barrier of all nodes' -n 2 --watchdog 0.5
expect any waits_for_an_announcement 'watchdog: thread [0-9]+ of node 1 has waited [0-9.]+ s for event counter 0 to reach 5, which is at 3' -n 2 --watchdog 0.5
expect 137 announcer_dies 'waiting for an event counter failed: node 1 has died.*the counter is at 0; 5 is awaited' -n 3 --on-death=continue
expect 137 outlives_a_node 'the others go on$' -n 3 --on-death=continue
# NETVM_DEATHS=1000 kills so many.
deaths=${NETVM_DEATHS:-2}
unset NETVM_DEATHS  # no setting of a job
for ((death = 1; death <= deaths; death++)); do
  DEATH_SEED=$((RANDOM * 32768 + RANDOM))
  export DEATH_SEED
  [ $((death % 2)) -eq 1 ] && shm=direct || shm=packet
  expect 137 dies_at_any_moment 'the others go on$' -n 3 --on-death=continue --shm $shm --protocol hlrc
  [ $failed -eq 0 ] || echo "DEATH_SEED=$DEATH_SEED"
done
for protocol in hlrc scope lease; do
  for scenario in memory_after_a_death node_zero_dies new_memory_after_a_death; do
    expect 137 $scenario 'the others go on$' -n 3 --on-death=continue --protocol $protocol --address-space 64M
  done
done
expect any node_zero_alone_knew 'node 1: node 0 has died, which kept the table of what is allocated, and no node that lives has met' -n 3 --on-death=continue
expect any first_touch_after_a_death 'node 1 has died, and what it had is needed .which node is the home of a page' -n 3 --on-death=continue
for protocol in sc-fixed sc-dynamic sc-directory erc lrc update self entry; do
  expect any memory_after_a_death "node 1 has died, and the program has memory under $protocol, which needs every node" -n 3 --on-death=continue --protocol $protocol
done
expect 137 outlives_a_node 'node 1 .*killed by signal 9.*ending the other nodes' -n 3
expect any collective_mismatch 'node [01] calls .*must call the same collectives in the same order' -n 2
expect any reduction_throws 'the operation of the all_reduce of 4 bytes threw "no such sum"' -n 2
expect any identity 'NETVM_PROTOCOL|no protocol' -n 2 --protocol nonsense
( ulimit -f 1024; expect any identity 'files of this process may have [0-9]+ bytes at most .ulimit -f.*NETVM_ADDRESS_SPACE' -n 2; exit $failed ) || failed=1
# It hangs: ended as soon as it has said why.
for trap in $traps; do
  coproc hangs { exec timeout 30 "$netvmrun" -n 2 --watchdog 0.5 --protocol hlrc --trap $trap "$scenarios" spins 2>&1; }
  process=$hangs_PID
  if grep -qEm1 'watchdog: the thread of rank 1 has been spinning .*reading 0x20[0-9a-f]+, 0 bytes into "door" \(4 bytes at 0x20.*sc-directory' <&"${hangs[0]}"; then
    echo "passed: a spin is named, $trap"
  else
    echo "FAILED: a spin is not named, $trap"
    failed=1
  fi
  kill "$process" 2>/dev/null
  wait "$process" 2>/dev/null
done
if ls /dev/shm/*netvm* >/dev/null 2>&1; then
  echo "FAILED: files left in /dev/shm"
  failed=1
fi
exit $failed
