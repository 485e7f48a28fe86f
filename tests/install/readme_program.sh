#!/usr/bin/env bash
# Usage: readme_program.sh SOURCE_DIR BUILD_DIR COMPILER
set -euo pipefail
. "$(dirname "$0")/installed.sh"
mkdir "$folder/user"
cd "$folder/user"
# The program is the one in README.md, word for word.
program_of README.md >histogram.cpp
grep -q 'netvm::Job' histogram.cpp
lines=$(wc -l <histogram.cpp)
[ "$lines" -le 32 ] || { echo "README.md's program has grown to $lines lines"; exit 1; }

cat >CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(user CXX)
find_package(NetVM 0.1 REQUIRED)
add_executable(histogram histogram.cpp)
target_link_libraries(histogram NetVM::netvm)
CMAKE
cmake -S . -B by_cmake -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$compiler" >cmake.log
cmake --build by_cmake >build.log

compile histogram.cpp by_pkg_config

# What the program must print: how often each last digit occurs among the squares of 0 .. 999,999.
expected=$(printf '0: 100000\n1: 200000\n2: 0\n3: 0\n4: 200000\n5: 100000\n6: 200000\n7: 0\n8: 0\n9: 200000')
for program in by_cmake/histogram ./by_pkg_config; do
  [ "$("$program")" = "$expected" ] || { echo "alone: wrong answer from $program"; exit 1; }
  [ "$("$prefix/bin/netvmrun" -n 3 "$program")" = "$expected" ] || { echo "on 3 nodes: wrong answer from $program"; exit 1; }
done
echo "README.md's program: right in both ways of building, alone and on 3 nodes"
