#!/usr/bin/env bash
# Usage: kit_program.sh SOURCE_DIR BUILD_DIR
# After `cmake --install`, a program with SPLASH-2 macros is built by a Makefile in the shape of Splash-3's, outside the tree, and runs on 3 nodes.
set -euo pipefail
source_dir=$1
build_dir=$2
command -v m4 >/dev/null && command -v make >/dev/null || { echo "m4 or make is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix="$folder/a prefix"

cmake --install "$build_dir" --prefix "$prefix" >"$folder/install.log"
mkdir "$folder/user"
cd "$folder/user"
for name in suite suite_queue; do cp "$source_dir/tests/kit/$name.C" "$name.c.in"; done
cp "$source_dir/tests/kit/suite.h" suite.h.in
cat >Makefile <<'MAKE'
CC := gcc
CFLAGS := -O2 -pthread -D_XOPEN_SOURCE=500 -D_POSIX_C_SOURCE=200112 -std=c11 -g -fno-strict-aliasing
LDFLAGS := -lm
MACROS := /nowhere/pthread.m4
M4 := m4 -Ulen -Uindex
SUITE: suite.o suite_queue.o
	$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS)
%.h: %.h.in
	$(M4) "$(MACROS)" $< > $@
%.c: %.c.in suite.h
	$(M4) "$(MACROS)" $< > $@
%.o: %.c
	$(CC) -c $(CFLAGS) $<
MAKE
export PATH=$prefix/bin:$PATH
make CC=netvm-cc MACROS="$(netvm-cc --macros)" >make.log
for command in "./SUITE 2" "netvmrun -n 3 ./SUITE 3"; do
  output=$($command)
  grep -q 'suite: passed' <<<"$output" || { printf '%s:\n%s\n' "$command" "$output"; exit 1; }
done
netvm-c++ --help | grep -q 'private-globals'
NETVM_CC=gcc netvm-cc --spread-openmp -O2 -fopenmp "$source_dir/tests/kit/pthreads/openmp_teams.c" -o openmp_spread
netvmrun -n 3 ./openmp_spread
echo "built with the installed netvm-cc, right alone and on 3 nodes"
