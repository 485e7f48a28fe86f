#!/usr/bin/env bash
# build.sh BIN SOURCE_DIR OUT: the programs with threads, as a user builds them.
set -euo pipefail
bin=$1 source=$2 out=$3
mkdir -p "$out"
cd "$out"
for program in threads objects files process place misuse; do
  "$bin/netvm-cc" -O2 -g -Wall -Wextra -Werror -pthread "$source/$program.c" -o "$program"
done
cc -O2 -pthread "$source/place.c" -o place_by_hand # by somebody who has not read the page
"$bin/netvm-cc" -O2 -std=c11 -pthread "$source/c11.c" -o c11
"$bin/netvm-cc" -O2 -fopenmp -pthread "$source/openmp.c" -o openmp
"$bin/netvm-c++" -O1 -std=c++20 -Wall -Wextra -pthread "$source/cxx.cpp" -o cxx
"$bin/netvm-cc" -O2 -fopenmp "$source/openmp_teams.c" -o openmp_teams
if gcc --version >/dev/null 2>&1; then NETVM_CC=gcc "$bin/netvm-cc" --spread-openmp -O2 -fopenmp "$source/openmp_teams.c" -o openmp_spread; fi
printf 'int own;\n#pragma omp threadprivate(own)\nint main(void) {\n#pragma omp parallel copyin(own)\n  {}\n  return 0;\n}\n' >copyin.c
if refusal=$("$bin/netvm-cc" --spread-openmp -fopenmp copyin.c -o copyin 2>&1) || ! grep -q 'copyin.c: copyin() would give' <<<"$refusal"; then
  echo "netvm-cc takes copyin() with --spread-openmp: $refusal"
  exit 1
fi
