#!/usr/bin/env bash
# Jobs whose backing file finds no room on its disk: a small tmpfs in a mount namespace of its own. They end quickly, with an exit status that is not 0
# and a message that says which file, where, and why; what lies on the disk stays as it was. Usage: run_full_disk.sh NETVMRUN SCENARIOS
set -u
netvmrun=$1
scenarios=$2
if [ -z "${NETVM_IN_NAMESPACE:-}" ]; then
  export NETVM_IN_NAMESPACE=1
  for how in "-m" "-Urm"; do  # as root, or as root of a user namespace
    if unshare $how true 2>/dev/null; then exec unshare $how "$0" "$@"; fi
  done
  echo "SKIPPED: neither a mount namespace nor a user namespace can be made here"
  exit 0
fi
unset NETVM_IN_NAMESPACE
disk=$(mktemp -d)
trap 'umount "$disk" 2>/dev/null; rmdir "$disk"' EXIT
failed=0
at_start="the nameless backing file in $disk gets no space: No space left on device. Name another place with NETVM_BACKING"
exits='netvmrun: node [0-9]+ \(pid [0-9]+\) exited with status 1'
midway="netvm\[node [0-9]+\]: page [0-9]+ cannot be brought in.*writing page [0-9]+ to the nameless backing file in $disk at offset [0-9]+: No space left on device .it holds [0-9]+ bytes; this would be [0-9]+ more.*NETVM_BACKING"
# expect SIZE FILL WORDS END SCENARIO OPTIONS...: a job on a disk of SIZE that holds a file of FILL bytes must fail with these words, and end so.
expect() {
  local size=$1 fill=$2 words=$3 end=$4 name=$5
  shift 5
  if ! mount -t tmpfs -o "size=$size" none "$disk"; then
    echo "SKIPPED: no tmpfs can be mounted here"
    exit 0
  fi
  head -c "$fill" /dev/zero >"$disk/somebody's"
  local output began=$SECONDS code
  output=$(timeout 60 "$netvmrun" --memory 384K --backing "$disk" "$@" "$scenarios" "$name" 2>&1)
  code=$?
  if [ $code -eq 0 ] || [ $code -eq 124 ] || [ $((SECONDS - began)) -gt 40 ] || ! grep -qE "$words" <<<"$output" ||
    ! grep -qE "$end" <<<"$output"; then
    echo "FAILED: netvmrun $* $name on a disk of $size with $fill bytes taken: status $code, $((SECONDS - began)) s, output (wanted /$words/ and /$end/):"
    echo "$output" | head -n 20
    failed=1
  else
    echo "passed: netvmrun $* $name on a disk of $size: status $code"
  fi
  if [ "$(stat -c %s "$disk/somebody's")" != "$fill" ] || [ "$(ls "$disk" | wc -l)" != 1 ]; then
    echo "FAILED: the disk is not as it was: $(ls -l "$disk")"
    failed=1
  fi
  umount "$disk"
}
for trap in userfaultfd mprotect; do
  if ! "$netvmrun" --trap $trap "$scenarios" identity >/dev/null 2>&1; then
    echo "skipped: $trap cannot be used on this machine"
    continue
  fi
  expect 64K 65536 "$at_start" "$exits" out_of_core -n 2 --trap $trap
  expect 256K 0 "$midway" "$exits" out_of_core -n 3 --threads 2 --trap $trap
  expect 256K 0 "$midway" "$exits" out_of_core_symmetric -n 2 --shm packet --trap $trap
  expect 256K 0 "$midway" "$exits" out_of_core -n 2 --protocol sc-directory --trap $trap
  # Met by a peer's request: the node whose disk it is says so, and the peer is told at which side it happened.
  expect 256K 0 "netvm\[node 1\]: page [0-9]+ cannot be brought in: writing page [0-9]+ to the nameless backing file in $disk at offset [0-9]+: No space left on device.*requests of nodes that need it end with E_FAULT_FAILED.*NETVM_BACKING" \
    "put to node 1 failed: node 1 cannot bring a page of its memory in" puts_beyond_the_disk -n 2 --trap $trap
done
# With room the same job ends well.
mount -t tmpfs -o size=64M none "$disk"
if ! timeout 60 "$netvmrun" -n 2 --memory 384K --backing "$disk" "$scenarios" out_of_core; then
  echo "FAILED: a job with room on its disk"
  failed=1
fi
umount "$disk"
exit $failed
