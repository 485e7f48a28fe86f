#!/usr/bin/env bash
# Installs the packages of .ci/packages.txt that are missing, with apt. See --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'HELP'
usage: apps/install-deps.sh [--test] [--check]

Installs what is missing of the Debian 12 packages in .ci/packages.txt: as root, or with sudo. When nothing is missing, it asks
neither for rights nor for the network. When it cannot install, it prints the command to run and ends with status 1.

  --test    also what only the tests need
  --check   install nothing: print the command and end with status 1 if something is missing
HELP
}

groups="build"
check=0
for argument in "$@"; do
  case "$argument" in
    --test) groups="build test" ;;
    --check) check=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "apps/install-deps.sh: unknown option \"$argument\"; see apps/install-deps.sh --help" >&2; exit 2 ;;
  esac
done

# packages GROUP: its names, one a line.
packages() {
  awk -v wanted="[$1]" '{ sub(/#.*/, ""); sub(/[ \t\r]+$/, "") } /^\[/ { group = $0; next } NF && group == wanted' .ci/packages.txt
}

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v dpkg-query >/dev/null; then
  echo "apps/install-deps.sh: this is not a Debian system (no dpkg-query). Install by hand what corresponds to .ci/packages.txt," >&2
  echo "then run again with --no-install." >&2
  exit 1
fi

missing=()
for group in $groups; do
  while read -r package; do
    installed "$package" || missing+=("$package")
  done < <(packages "$group")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  as_root=(sudo)
else
  check=1
fi
if [ $check -eq 1 ]; then
  printf 'Missing packages: %s\nInstall them as root:\n\n  apt-get update && %s\n\n' "${missing[*]}" "${command[*]}" >&2
  exit 1
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" "${command[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  printf '\napps/install-deps.sh: apt failed (above). Install as root, then run again:\n\n  apt-get update && %s\n\n' "${command[*]}" >&2
  exit 1
fi
