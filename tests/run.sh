#!/usr/bin/env bash
# Builds and passes all tests. What CI runs; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'HELP'
usage: tests/run.sh [--no-install] [STAGE...]

Builds NetVM in several ways and runs its tests. Without stages: all of them, in this order.

  format    clang-format
  release   g++, no warnings: all tests
  asan      clang++, address and undefined behaviour sanitizers: unit, simulation, litmus, stress, and libFuzzer on the decoders, briefly
  tsan      clang++, thread sanitizer: unit and stress, what has several threads and runs with the checked trap (the simulator has one thread)
  headers   every header compiles alone
  lint      clang-tidy, and clang++'s own warnings

  --no-install   do not install missing packages

Build folders are build/<preset>; logs of failed stages go to the terminal. Exit status 0 if every stage passed.
HELP
}

install=1
stages=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) usage; exit 0 ;;
    --no-install) install=0 ;;
    format | release | asan | tsan | headers | lint) stages+=("$argument") ;;
    *) echo "tests/run.sh: unknown stage or option \"$argument\"; see tests/run.sh --help" >&2; exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(format release asan tsan headers lint)
[ $install -eq 0 ] || ./apps/install-deps.sh --test

jobs=$(nproc)
sources() { find runtime nic sync dsm apps tests -name '*.cpp' -o -name '*.hpp' | sort; }

# build PRESET [TARGET...]: configures and builds, everything or these; a warning fails it, and only then the output shows.
build() {
  local preset=$1 log options=()
  shift
  [ "$preset" = release ] || options=(-DNETVM_APPS=OFF)
  log=$(mktemp)
  if ! { cmake --preset "$preset" "${options[@]}" && cmake --build "build/$preset" -j "$jobs" ${@:+--target "$@"}; } >"$log" 2>&1 || grep -q 'warning: .*\[-W' "$log"; then
    grep -E -B2 -A12 'error|warning:|FAILED' "$log" | head -n 200
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

run_ctest() {  # PRESET [ctest options]
  local preset=$1
  shift
  ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error "$@"
}

stage_format() { sources | xargs clang-format --dry-run --Werror; }
stage_release() { build release && run_ctest release; }
stage_asan() { build asan && UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan -L 'unit|simulation|litmus|stress|fuzz'; }
stage_tsan() { build tsan netvm_unit netvm_litmus netvm_stress netvm_ring_sound netvm_ring_weakened && run_ctest tsan -L 'unit|stress'; }
stage_headers() {
  find runtime nic sync dsm -name '*.hpp' -not -path '*/package/*' | sort |
    xargs -P "$jobs" -I{} sh -c 'echo "#include \"{}\"" | g++ -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror -I. -Idsm/api -x c++ - || { echo "{} does not compile alone"; exit 255; }'
}
stage_lint() {
  [ -f build/release/compile_commands.json ] || cmake --preset release >/dev/null
  # Eight files of one folder at a time; xargs fails if one of them does.
  find runtime nic sync dsm apps -name '*.cpp' -printf '%h\n' | sort -u | while read -r folder; do
    find "$folder" -maxdepth 1 -name '*.cpp' | sort | xargs -n 8
  done | xargs -P "$jobs" -L 1 tests/lint.sh build/release
}

failed=()
summary=""
for stage in "${stages[@]}"; do
  echo "=== $stage"
  began=$SECONDS
  if "stage_$stage"; then result=passed; else result=FAILED; failed+=("$stage"); fi
  summary+=$(printf '%-8s %-6s %4d s' "$stage" "$result" $((SECONDS - began)))$'\n'
done
printf '\n%s' "$summary"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}; again with: tests/run.sh ${failed[*]}"
  exit 1
fi
echo "all ${#stages[@]} stages passed"
