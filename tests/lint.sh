#!/usr/bin/env bash
# clang-tidy over these source files of one folder, as one translation unit: reading the standard library's headers is most of its work, and is done once so.
# Where it finds something, or they do not compile together (two files have a name for themselves), each half is looked at, and so on: only what a file by itself
# shows counts. Usage, in the repository's root: tests/lint.sh BUILD FILE...     BUILD: a folder with compile_commands.json
set -u
build=$1
shift
if [ $# -gt 1 ]; then
  together=$build/lint/$1  # clang-tidy takes the flags of the file that is named alike
  mkdir -p "$(dirname "$together")"
  printf '#include "%s"  // NOLINT(bugprone-suspicious-include)\n' "$@" >"$together"
  clang-tidy -p "$build" --quiet "$together" >/dev/null 2>&1 && exit 0
  half=$((($# + 1) / 2)) status=0
  "$0" "$build" "${@:1:half}" || status=1
  "$0" "$build" "${@:half+1}" || status=1
  exit $status
fi
clang-tidy -p "$build" --quiet "$1" 2>/dev/null
